"""CoPe decoding with transformers and peft: the comparison of `--what peer`.

    python benches/decoding/peer.py MODEL.gguf INPUTS.json --dtype f32|bf16

INPUTS.json holds `tasks`, each with the path of its `adapter` (our GGUF file) and its `prompts` as token ids; `ends`,
the tokens that end an answer; `contrast`, `plausibility` and `max_new_tokens`. Base and user model have a cache each;
the base is the same model with its adapter switched off. Prints one line of JSON per task: its answers and their time
in seconds.
"""
import argparse, json, math, os, time
import torch
from gguf import GGUFReader
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

TARGETS = {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj", "ffn_gate": "gate_proj",
           "ffn_up": "up_proj", "ffn_down": "down_proj"}


def load_base(path, dtype):
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    return model.to({"f32": torch.float32, "bf16": torch.bfloat16}[dtype])


def rotary_rows(rows, n_head):
    """The rows of llama's queries or keys in transformers' order: llama.cpp has the two halves of a head interleaved."""
    return rows.reshape(n_head, -1, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def load_adapter(model, path):
    """Gives the model's adapter, whose rank and targets are those of the file, the file's numbers."""
    reader, config = GGUFReader(path), model.config
    n_heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for tensor in reader.tensors:
            _, layer, target, _, side = tensor.name.split(".")
            values = torch.tensor(tensor.data)
            if config.model_type == "llama" and side == "lora_b" and target in n_heads:
                values = rotary_rows(values, n_heads[target])
            key = f".layers.{layer}." + ("self_attn." if target.startswith("attn") else "mlp.")
            key += f"{TARGETS[target]}.lora_{side[-1].upper()}.default.weight"
            (match,) = (name for name in parameters if name.endswith(key))
            parameters[match].copy_(values)


def with_adapter(model, path):
    reader = GGUFReader(path)
    rank = min(int(tensor.shape[1]) for tensor in reader.tensors if tensor.name.endswith("lora_a"))
    alpha = float(reader.fields["adapter.lora.alpha"].parts[-1][0])
    targets = sorted({TARGETS[tensor.name.split(".")[2]] for tensor in reader.tensors})
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM"))


@torch.no_grad()
def answer(model, prompt, inputs):
    text, user_cache, base_cache, step = [], None, None, torch.tensor([prompt])
    while len(text) < inputs["max_new_tokens"]:
        user = model(input_ids=step, past_key_values=user_cache, use_cache=True, logits_to_keep=1)
        with model.disable_adapter():
            base = model(input_ids=step, past_key_values=base_cache, use_cache=True, logits_to_keep=1)
        user_cache, base_cache = user.past_key_values, base.past_key_values
        user, base = user.logits[0, -1].float(), base.logits[0, -1].float()
        implausible = user < user.max() + math.log(inputs["plausibility"])
        token = int((user - inputs["contrast"] * base).masked_fill(implausible, -math.inf).argmax())
        if token in inputs["ends"]:
            break
        text.append(token)
        step = torch.tensor([[token]])
    return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("inputs")
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    arguments = parser.parse_args()
    with open(arguments.inputs) as file:
        inputs = json.load(file)
    torch.set_num_threads(os.cpu_count())
    model = with_adapter(load_base(arguments.model, arguments.dtype), inputs["tasks"][0]["adapter"]).eval()
    for task in inputs["tasks"]:
        load_adapter(model, task["adapter"])
        # As ours: the first pass sizes what is kept.
        answer(model, task["prompts"][0][:2], {**inputs, "max_new_tokens": 2})
        start = time.time()
        texts = [answer(model, prompt, inputs) for prompt in task["prompts"]]
        print(json.dumps({"seconds": time.time() - start, "texts": texts}), flush=True)


main()
