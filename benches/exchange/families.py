"""Small random models of each family in transformers and PEFT, for the bench `exchange`.

    python benches/exchange/families.py LLAMA_CPP OUT NAME…        (transformers 5.23.0, peft 0.21.2, torch 2.15.0)

LLAMA_CPP is the folder with llama.cpp's converters. Writes for each model, into OUT/NAME: `hf`, as transformers
saves it; `base.gguf`, by llama.cpp's converter in F32; `peft`, an adapter of all linear layers with random values;
`theirs.gguf`, llama.cpp's conversion of that, where its converter knows the family; `gradients`, in the form of an
adapter, the gradients of the SFT loss of the first batch; and `expected.json`: `texts` and the logits after each of their
tokens for `base` and `user`, the batches of `sft` and `dpo`, and the `losses` of 20 steps of each from the adapter
`peft`. Prints the name of each model that is made, then reads the path of an adapter and prints its logits for the texts.
"""
import contextlib, io, json, logging, os, runpy, shutil, sys, traceback, warnings
import torch
import torch.nn.functional as F
import transformers as tf
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

RANK, LORA_ALPHA, WEIGHT_DECAY, MAX_GRAD_NORM, BETA, STEPS = 4, 8, 0.01, 1.0, 0.1, 20
# Small enough that steps do not multiply rounding: with 1e-3 a difference of 1e-6 grows to some percent in 20 steps.
LEARNING_RATE = 2e-4
N_TOKENS = 256
SLIDING, FULL, CONV = "sliding_attention", "full_attention", "conv"

SIZE = dict(vocab_size=N_TOKENS + 32, hidden_size=64, intermediate_size=96, num_hidden_layers=4, bos_token_id=1,
            eos_token_id=2, pad_token_id=0)
EVEN = dict(SIZE, num_attention_heads=4, num_key_value_heads=2)
# Three heads that are narrower together than the model, with one head of keys.
ODD = dict(SIZE, hidden_size=72, num_attention_heads=3, num_key_value_heads=1, head_dim=16)
ONE_KEY = dict(SIZE, num_attention_heads=4, num_key_value_heads=1)
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=8.0, original_max_position_embeddings=16,
            attention_factor=1.2079441541679836, beta_fast=32, beta_slow=1)
GEMMA4 = dict(SIZE, num_attention_heads=4, num_key_value_heads=2, head_dim=16, global_head_dim=32, sliding_window=8)


def longrope(n, **more):
    rope = dict(rope_type="longrope", rope_theta=1e4, original_max_position_embeddings=256,
                long_factor=[1 + 0.5 * i for i in range(n)], short_factor=[1 + 0.05 * i for i in range(n)], **more)
    return dict(max_position_embeddings=1024, original_max_position_embeddings=256, sliding_window=None,
                rope_parameters=rope)


def ministral3(**more):
    rope = dict(rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=32, beta_fast=32.0,
                beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1)
    return tf.Ministral3Config(max_position_embeddings=128, rope_parameters=rope, **more)


def qwen35(n_k, n_v, **more):
    rope = dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25, mrope_section=[2, 1, 1],
                mrope_interleaved=True)
    return tf.Qwen3_5TextConfig(linear_num_key_heads=n_k, linear_num_value_heads=n_v, linear_key_head_dim=16,
                                linear_value_head_dim=16, rope_parameters=rope, **more)


def olmo3():
    full = {**YARN, "rope_theta": 500000}
    rope = {FULL: full, SLIDING: {"rope_type": "default", "rope_theta": 500000}}
    config = dict(EVEN, model_type="olmo3", architectures=["Olmo3ForCausalLM"], sliding_window=8,
                  max_position_embeddings=128, rms_norm_eps=1e-6, rope_parameters=rope)
    # Only a configuration that is read from a file gets its two kinds of rotary embedding.
    folder = os.path.join(os.environ["TMPDIR"], "olmo3")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    return tf.AutoConfig.from_pretrained(folder)


# For each model: how its configuration is made, and the kind of its tokenizer. Two or more of each family.
MODELS = {
    "llama": (lambda: tf.LlamaConfig(**EVEN, tie_word_embeddings=False), "spm"),
    "llama-odd": (lambda: tf.LlamaConfig(**ODD, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=1e4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64)), "spm"),
    "qwen2": (lambda: tf.Qwen2Config(**EVEN, tie_word_embeddings=True), "bpe"),
    "qwen2-untied": (lambda: tf.Qwen2Config(**ONE_KEY), "bpe"),
    "qwen3": (lambda: tf.Qwen3Config(**EVEN, head_dim=16, tie_word_embeddings=True), "bpe"),
    "qwen3-odd": (lambda: tf.Qwen3Config(**ODD), "bpe"),
    "gemma2": (lambda: tf.Gemma2Config(**EVEN, head_dim=16, query_pre_attn_scalar=16, sliding_window=8), "spm"),
    "gemma2-odd": (lambda: tf.Gemma2Config(**ODD, query_pre_attn_scalar=16, sliding_window=5), "spm"),
    # Every sixth block has full attention: GGUF files do not say which.
    "gemma3": (lambda: tf.Gemma3TextConfig(**{**EVEN, "num_hidden_layers": 6}, head_dim=16, query_pre_attn_scalar=16,
                                           sliding_window=8), "spm"),
    "gemma3-odd": (lambda: tf.Gemma3TextConfig(**{**ODD, "num_hidden_layers": 7}, query_pre_attn_scalar=16,
                                               sliding_window=5), "spm"),
    "smollm3": (lambda: tf.SmolLM3Config(**EVEN), "spm"),
    "smollm3-wide": (lambda: tf.SmolLM3Config(**{**EVEN, "num_hidden_layers": 6, "num_key_value_heads": 4}), "spm"),
    "granite": (lambda: tf.GraniteConfig(**EVEN, embedding_multiplier=12.0, logits_scaling=8.0,
                                         residual_multiplier=0.22, attention_multiplier=0.125), "spm"),
    "granite-untied": (lambda: tf.GraniteConfig(**ONE_KEY, embedding_multiplier=3.0,
                                                logits_scaling=2.0, residual_multiplier=0.5, attention_multiplier=0.3,
                                                tie_word_embeddings=False), "spm"),
    "mistral3": (lambda: ministral3(**EVEN, head_dim=32), "spm"),
    "mistral3-odd": (lambda: ministral3(**ODD, tie_word_embeddings=True), "spm"),
    "olmo2": (lambda: tf.Olmo2Config(**EVEN), "bpe"),
    "olmo3": (olmo3, "bpe"),
    "phi3": (lambda: tf.Phi3Config(**EVEN, max_position_embeddings=128, original_max_position_embeddings=128,
                                   sliding_window=None), "spm"),
    "phi3-long": (lambda: tf.Phi3Config(**EVEN, **longrope(8)), "spm"),
    "phi3-partial": (lambda: tf.Phi3Config(**EVEN, **longrope(6, partial_rotary_factor=0.75),
                                           tie_word_embeddings=True), "spm"),
    "lfm2": (lambda: tf.Lfm2Config(**EVEN, block_multiple_of=16, layer_types=[CONV, FULL] * 2), "bpe"),
    "lfm2-odd": (lambda: tf.Lfm2Config(**ONE_KEY, block_multiple_of=16,
                                       layer_types=[CONV, CONV, FULL, CONV], tie_word_embeddings=False), "bpe"),
    "qwen35": (lambda: qwen35(2, 2, **EVEN, head_dim=32, tie_word_embeddings=True), "bpe"),
    "qwen35-wide": (lambda: qwen35(2, 4, **{**ODD, "head_dim": 32}, tie_word_embeddings=False), "bpe"),
    "gemma4": (lambda: tf.Gemma4TextConfig(
        **{**GEMMA4, "num_hidden_layers": 6}, vocab_size_per_layer_input=SIZE["vocab_size"],
        hidden_size_per_layer_input=16, num_kv_shared_layers=2, layer_types=[SLIDING, FULL] * 3, use_double_wide_mlp=True,
        final_logit_softcapping=30.0), "gemma"),
    "gemma4-dense": (lambda: tf.Gemma4TextConfig(
        **GEMMA4, hidden_size_per_layer_input=0, num_kv_shared_layers=0, layer_types=[SLIDING, FULL] * 2,
        attention_k_eq_v=True, num_global_key_value_heads=1, final_logit_softcapping=30.0), "gemma"),
}


def spm(folder):
    """A SentencePiece vocabulary of N_TOKENS bytes and some letters."""
    import sentencepiece
    text, prefix = os.path.join(folder, "text"), os.path.join(folder, "tokenizer")
    with open(text, "w") as file:
        file.write("rain on the roof and a small red house by the river\n" * 40)
    sentencepiece.SentencePieceTrainer.train(input=text, model_prefix=prefix, vocab_size=SIZE["vocab_size"],
                                             model_type="bpe", byte_fallback=True, minloglevel=2)


def bpe(folder):
    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    words += [f"<|filler{n}|>" for n in range(SIZE["vocab_size"] - len(words) - 3)] + ["ab", "<|endoftext|>", "<|im_start|>"]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, [("a", "b")]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = dict(eos_token="<|endoftext|>", bos_token="<|im_start|>", pad_token="<|endoftext|>")
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def gemma(folder):
    words = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    words += list("abcdefghijklmnopqrstuvwxyz") + ["ab"]
    words += [f"<|filler{n}|>" for n in range(SIZE["vocab_size"] - len(words))]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, [("a", "b")], byte_fallback=True,
                                     unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    special = dict(pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>")
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def set_random(model):
    """Values of about the size that trained models have."""
    # Nothing else divides these scores, and large ones multiply rounding.
    is_unscaled = model.config.model_type.startswith("gemma4")
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, values in model.named_parameters():
            drawn = torch.randn(values.shape, generator=random)
            if values.dim() > 1:
                values.copy_(drawn * (0.4 if "conv" in name and "proj" not in name else 0.08))
            else:
                values.copy_(values + 0.2 * drawn if "norm" in name else 0.3 * drawn)
            if "layers" in name and is_unscaled and ("q_norm" in name or "k_norm" in name):
                values.mul_(0.5)
        for name, values in model.named_buffers():
            if "layer_scalar" in name:
                values.fill_(0.5 + torch.rand(1, generator=random).item())


class Converters:
    """llama.cpp's converters, run in this process, since they take seconds to be imported."""

    def __init__(self, folder):
        self.folder = folder
        sys.path[:0] = [folder, os.path.join(folder, "gguf-py")]
        import conversion.base
        # The hash of these vocabularies is unknown to the converter.
        conversion.base.TextModel.get_vocab_base_pre = lambda *_: "qwen2"

    def run(self, script, *arguments):
        """Whether a script succeeds, and what it has said."""
        said, before = io.StringIO(), (sys.argv, logging.getLogger().handlers)
        sys.argv = [os.path.join(self.folder, script), *arguments]
        logging.getLogger().handlers = [logging.StreamHandler(said)]
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                runpy.run_path(sys.argv[0], run_name="__main__")
            return True, said.getvalue()
        except SystemExit as error:
            return not error.code, said.getvalue()
        except Exception:
            return False, said.getvalue() + traceback.format_exc()
        finally:
            sys.argv, logging.getLogger().handlers = before


def draw_tokens(n, random):
    return torch.randint(10, N_TOKENS, (n,), generator=random).tolist()


def logits(model, texts):
    with torch.no_grad():
        return [model(input_ids=torch.tensor([text]), use_cache=False).logits[0].double().tolist() for text in texts]


def response_logprobs(model, items):
    """The log-probabilities of each item's response tokens, in nats, one item at a time."""
    rows = []
    for prompt, response in items:
        outputs = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0, len(prompt) - 1:-1]
        rows.append(F.log_softmax(outputs, -1).gather(1, torch.tensor(response)[:, None])[:, 0])
    return rows


def train(model, batches, loss_of, n_steps):
    """The losses of some steps, and the gradients of the first."""
    parameters = {name: it for name, it in model.named_parameters() if it.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses, gradients = [], None
    for step in range(n_steps):
        loss = loss_of(batches[step % len(batches)])
        optimizer.zero_grad()
        loss.backward()
        gradients = gradients or {name: it.grad.clone() for name, it in parameters.items()}
        torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_GRAD_NORM)
        optimizer.step()
        losses.append(loss.item())
    return losses, gradients


def set_adapter(model, values):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in values:
                parameter.copy_(values[name])


def make(converters, folder, config, tokenizer):
    base = os.path.join(folder, "hf")
    os.makedirs(base)
    model = tf.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    set_random(model)
    model.save_pretrained(base)
    globals()[tokenizer](base)
    gguf = os.path.join(folder, "base.gguf")
    more = ["--no-mtp"] if config.model_type.startswith("qwen3_5") else []
    is_made, said = converters.run("convert_hf_to_gguf.py", base, "--outfile", gguf, "--outtype", "f32", *more)
    if not is_made:
        sys.exit(f"llama.cpp's converter refuses {folder}:\n{said}")

    random = torch.Generator().manual_seed(5)
    texts = [draw_tokens(n, random) for n in (5, 24, 100)]
    expected = {"texts": texts, "base": logits(model, texts)}
    # llama.cpp loads an adapter of this layer and does not apply it.
    lora = LoraConfig(r=RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM",
                      exclude_modules=["per_layer_model_projection"])
    adapted = get_peft_model(model, lora).eval()
    start = {}
    with torch.no_grad():
        for name, values in adapted.named_parameters():
            if "lora_" in name:
                values.copy_(0.15 * torch.randn(values.shape, generator=random))
                start[name] = values.clone()
    expected["user"] = logits(adapted, texts)
    peft = os.path.join(folder, "peft")
    adapted.save_pretrained(peft)
    arguments = "--base", base, "--outfile", os.path.join(folder, "theirs.gguf"), "--outtype", "f32"
    expected["is_converted"] = converters.run("convert_lora_to_gguf.py", peft, *arguments)[0]

    item = lambda: (draw_tokens(7, random), draw_tokens(12, random))
    batches = [[item(), item()] for _ in range(3)]

    def sft_loss(items):
        return -torch.cat(response_logprobs(adapted, items)).mean()

    losses, gradients = train(adapted, batches, sft_loss, STEPS)
    expected["sft"] = {"batches": batches, "losses": losses}
    set_adapter(adapted, gradients)
    adapted.save_pretrained(os.path.join(folder, "gradients"))

    set_adapter(adapted, start)
    triples = [[(*item(), draw_tokens(9, random)) for _ in range(2)] for _ in range(3)]
    chosen = lambda items: [(prompt, response) for prompt, response, _ in items]
    rejected = lambda items: [(prompt, response) for prompt, _, response in items]
    sums = lambda items: torch.stack([row.sum() for row in response_logprobs(adapted, items)])

    def dpo_loss(items):
        with torch.no_grad(), adapted.disable_adapter():
            reference = sums(chosen(items)) - sums(rejected(items))
        return -F.logsigmoid(BETA * (sums(chosen(items)) - sums(rejected(items)) - reference)).mean()

    losses, _ = train(adapted, triples, dpo_loss, STEPS)
    expected["dpo"] = {"batches": triples, "losses": losses}
    expected.update(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, max_grad_norm=MAX_GRAD_NORM, beta=BETA)
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump(expected, file)
    return adapted.unload(), texts


def main():
    torch.set_num_threads(1)
    tf.logging.set_verbosity_error()
    tf.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    converters, out, *names = sys.argv[1:]
    os.environ["TMPDIR"] = out
    converters = Converters(converters)
    for name in names or MODELS:
        config, tokenizer = MODELS[name]
        folder = os.path.join(out, name)
        shutil.rmtree(folder, ignore_errors=True)
        model, texts = make(converters, folder, config(), tokenizer)
        print(name, flush=True)
        adapter = sys.stdin.readline().rstrip("\n")
        if not adapter:
            sys.exit("no adapter was given")
        model = PeftModel.from_pretrained(model, adapter).eval()
        print(json.dumps(logits(model, texts)), flush=True)


if __name__ == "__main__":
    main()
