"""SFT with transformers and peft of a model with random weights, for the bench `shapes`.

    python benches/shapes/random_peer.py qwen35|gemma4|smollm3 float32|bfloat16 N_LAYER N_VOCAB LENGTH ITEMS      (transformers 5.23.0, peft 0.21.2)

Trains LoRA of rank 8 on all linear layers, one item of LENGTH tokens a step, after one step that is not counted. Prints
`tokens_per_second` and `peak_mb`, the peak memory of the process, as JSON.
"""
import json, resource, sys, time
import torch
import transformers
from peft import LoraConfig, get_peft_model


def config(architecture, n_layer, n_vocab):
    if architecture == "qwen35":
        return transformers.Qwen3_5TextConfig(
            hidden_size=1024, intermediate_size=3584, num_hidden_layers=n_layer, num_attention_heads=8,
            num_key_value_heads=2, head_dim=256, vocab_size=n_vocab, linear_num_key_heads=16, linear_num_value_heads=16,
            linear_key_head_dim=128, linear_value_head_dim=128, tie_word_embeddings=True)
    if architecture == "gemma4":
        return transformers.Gemma4TextConfig(
            hidden_size=1536, intermediate_size=6144, num_hidden_layers=n_layer, num_attention_heads=8, num_key_value_heads=1,
            head_dim=256, global_head_dim=512, sliding_window=512, vocab_size=n_vocab, vocab_size_per_layer_input=n_vocab,
            hidden_size_per_layer_input=256, num_kv_shared_layers=20 if n_layer == 35 else 5, use_double_wide_mlp=True,
            final_logit_softcapping=30.0,
            layer_types=[("full" if (layer + 1) % 5 == 0 else "sliding") + "_attention" for layer in range(n_layer)])
    return transformers.SmolLM3Config(
        hidden_size=2048, intermediate_size=11008, num_hidden_layers=n_layer, num_attention_heads=16,
        num_key_value_heads=4, vocab_size=n_vocab, pad_token_id=0, tie_word_embeddings=True)


def main():
    architecture, dtype, *numbers = sys.argv[1:]
    n_layer, n_vocab, length, n_items = map(int, numbers)
    torch.manual_seed(1)
    torch.set_default_dtype(getattr(torch, dtype))
    model = transformers.AutoModelForCausalLM.from_config(config(architecture, n_layer, n_vocab))
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM",
                                             exclude_modules=["per_layer_model_projection"]))
    parameters = [it for it in model.parameters() if it.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    started = time.time()
    for step in range(n_items + 1):
        if step == 1:
            started = time.time()
        tokens = torch.randint(10, min(n_vocab, 300), (1, length))
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(dict(tokens_per_second=n_items * length / seconds, peak_mb=peak)))


main()
