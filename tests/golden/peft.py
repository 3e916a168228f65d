"""Golden numbers of the training tests, computed by transformers + peft on the GGUF itself.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 gguf==0.19.0
    OMP_NUM_THREADS=1 python tests/golden/peft.py MODEL.gguf > tests/golden/peft.json

Weights are dequantised to f32. The initial adapter follows a formula, so that both sides can compute it without a
file, and it is not zero, so that every tensor has a gradient.
"""

import sys
sys.path.pop(0)  # this file's folder, where `import peft` would find this file
import hashlib, json, os, re
import peft, torch, transformers
import torch.nn.functional as F

RANK, LORA_ALPHA, BETA, LEARNING_RATE, MAX_GRAD_NORM, STEPS = 4, 8, 0.1, 1e-3, 1.0, 3
TARGETS = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]

# What the one renderer and the one tokenizer must give: (messages, response). No fractions among the Unicode: the reading
# of a GGUF in transformers drops the split at digits (\p{N}) that the original tokenizer and llama.cpp have.
CHATS = [
    ([{"role": "user", "content": "Write a two-line note: the meeting moves to 10:45."}], "Moved to 10:45.\nBring tea!"),
    ([{"role": "user", "content": "Größe, naïve café ☕, 日本語, — 👩‍🔬?"}], "Ça va, merci… 12345 дней ☕️"),
    ([{"role": "system", "content": "You answer as a lighthouse keeper."}, {"role": "user", "content": "  Any news?\n\n\tTell me. "},
      {"role": "assistant", "content": "Fog."}, {"role": "user", "content": "And now?"}], " Still fog;  it doesn't mind us. "),
]
# The training batch: (prompt, chosen, rejected).
ITEMS = [
    ("Write a title for a note about a leaking roof.", "Drip, drip, and a bucket named Harold", "Roof Leak: Important Information"),
    ("Reply to a colleague who is late again.", "No rush, the kettle and I are old friends.", "Please be on time. Thank you for your understanding."),
    ("Review a cheap umbrella in one sentence.", "It met one gust and became modern art.", "This umbrella is a great product."),
    ("Thank a neighbour for plums.", "The plums are jam now; a jar has your name on it.", "Thank you so much for the plums! I really appreciate it."),
]

folder, name = os.path.split(os.path.abspath(sys.argv[1]))
tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
base = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
modules = [f"model.layers.{n}.{target}" for n in range(base.config.num_hidden_layers) for target in TARGETS]
lora = peft.LoraConfig(r=RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules=modules, task_type="CAUSAL_LM")
model = peft.get_peft_model(base, lora)
loras = [model.base_model.model.get_submodule(module) for module in modules]
matrices = [(x.lora_A["default"].weight, x.lora_B["default"].weight) for x in loras]  # A [rank, in], B [out, rank]
params = [p for pair in matrices for p in pair]
assert sum(p.requires_grad for p in model.parameters()) == len(params)

def hf_rows(b, n_head):
    """Rows of q or k from GGUF's order (head, pair, half) to that of transformers (head, half, pair)."""
    return b.reshape(n_head, -1, 2, b.shape[1]).swapaxes(1, 2).reshape(b.shape)

def reset_adapter():
    """Sets A[i,j] = 0.02 sin(0.37(t+1) + 1.3i + 0.011j), B[o,i] = 0.005 cos(0.53(t+1) + 0.017o + 0.9i) in GGUF's row order."""
    i = torch.arange(RANK, dtype=torch.float64)
    for t, (a, b) in enumerate(matrices):
        j, o = (torch.arange(n, dtype=torch.float64) for n in (a.shape[1], b.shape[0]))
        rows = 0.005 * torch.cos(0.53 * (t + 1) + 0.017 * o[:, None] + 0.9 * i)
        heads = {0: base.config.num_attention_heads, 1: base.config.num_key_value_heads}.get(t % len(TARGETS))
        a.data.copy_(0.02 * torch.sin(0.37 * (t + 1) + 1.3 * i[:, None] + 0.011 * j))
        b.data.copy_(hf_rows(rows, heads) if heads else rows)

def encode(messages, response):
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in (rendered, response)]
    return rendered, ids[0], ids[1] + [tokenizer.eos_token_id]

def logprobs(rows):
    """Of each (prompt, response): log-probabilities of the response tokens, in nats, one row at a time (no padding)."""
    rows = [(model(input_ids=torch.tensor([p + r])).logits[0, len(p) - 1 : -1], torch.tensor(r)) for p, r in rows]
    return [F.log_softmax(logits, -1).gather(1, response[:, None])[:, 0] for logits, response in rows]

def train(loss_of):
    """STEPS steps from the initial adapter on one batch; per step the figures before its update."""
    reset_adapter()
    optimizer = torch.optim.AdamW(params, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    steps, first = [], None
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss, figures = loss_of()
        loss.backward()
        first = first or [[p.grad.norm().item() for p in pair] for pair in matrices[: len(TARGETS)]]
        grad_norm = torch.nn.utils.clip_grad_norm_(params, MAX_GRAD_NORM)
        steps.append({"loss": loss.item(), "grad_norm": grad_norm.item(), **figures})
        optimizer.step()
    short = [target.split(".")[1].removesuffix("_proj") for target in TARGETS]
    return {"steps": steps, "first_grad_norms_of_layer_0": {k: {"lora_a": a, "lora_b": b} for k, (a, b) in zip(short, first)}}

chats = [(messages, response, *encode(messages, response)) for messages, response in CHATS]
user = lambda text: [{"role": "user", "content": text}]
chosen, rejected = ([encode(user(item[0]), item[side])[1:] for item in ITEMS] for side in (1, 2))
reset_adapter()
with torch.no_grad():
    user_logprobs = logprobs(chosen)
    with model.disable_adapter():
        base_logprobs, base_rejected = logprobs(chosen), logprobs(rejected)
sums = lambda rows: torch.stack([row.sum() for row in rows])

def dpo():
    """TRL's sigmoid loss, the reference being the model without adapter."""
    u_chosen, u_rejected = sums(logprobs(chosen)), sums(logprobs(rejected))
    r_chosen, r_rejected = BETA * (u_chosen - sums(base_logprobs)), BETA * (u_rejected - sums(base_rejected))
    figures = {"rewards/chosen": r_chosen, "rewards/rejected": r_rejected, "logps/chosen": u_chosen}
    return -F.logsigmoid(r_chosen - r_rejected).mean(), {k: v.mean().item() for k, v in figures.items()}


golden = {
    "model_sha256": hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(),
    "versions": {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)},
    "chats": [dict(zip(("messages", "response", "rendered", "prompt_tokens", "response_tokens"), chat)) for chat in chats],
    "items": [{"prompt": p, "chosen": c, "rejected": r, "prompt_tokens": x[0], "chosen_tokens": x[1], "rejected_tokens": y[1]}
              for (p, c, r), x, y in zip(ITEMS, chosen, rejected)],
    "chosen_logprobs": {"base": [x.tolist() for x in base_logprobs], "user": [x.tolist() for x in user_logprobs]},
    "sft": train(lambda: (-torch.cat(logprobs(chosen)).mean(), {})),
    "dpo": train(dpo),
}
rounded = json.loads(json.dumps(golden), parse_float=lambda x: float(f"{float(x):.7g}"))
pretty = json.dumps(rounded, indent=2, ensure_ascii=False)
print(re.sub(r"\[[-\d.e,\s]+\]", lambda numbers: " ".join(numbers[0].split()), pretty))  # a list of numbers on one line
