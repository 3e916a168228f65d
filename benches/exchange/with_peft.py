"""Runs two adapters in transformers + peft, on the base's dequantised weights in f32.

    python benches/exchange/with_peft.py BASE.gguf GIVEN TRAINED INPUTS.json

INPUTS.json has `texts` and `prompts` as token ids, and `n_predict`. The first adapter is loaded from the folder GIVEN. The
second, of q, v and down, is trained on the texts and saved into the folder TRAINED. Prints a line of JSON for each adapter
and prompt, with the greedy `tokens` and their `logprobs`, in nats.
"""
import json, os, sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def train(model, texts, folder):
    torch.manual_seed(1)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    optimizer = torch.optim.AdamW([it for it in model.parameters() if it.requires_grad], lr=2e-3)
    for text in texts:
        ids = torch.tensor([text])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return model


@torch.no_grad()
def answer(model, prompt, n_predict):
    tokens, logprobs, cache, step = [], [], None, torch.tensor([prompt])
    while len(tokens) < n_predict:
        output = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        logprob, token = torch.log_softmax(output.logits[0, -1].double(), -1).max(-1)
        tokens.append(int(token))
        logprobs.append(float(logprob))
        step = token.reshape(1, 1)
    return {"tokens": tokens, "logprobs": logprobs}


def answer_all(model, inputs):
    model.eval()
    for prompt in inputs["prompts"]:
        print(json.dumps(answer(model, prompt, inputs["n_predict"])), flush=True)


def main():
    base, given, trained, inputs = sys.argv[1:]
    with open(inputs) as file:
        inputs = json.load(file)
    parent, name = os.path.split(os.path.abspath(base))
    model = AutoModelForCausalLM.from_pretrained(parent, gguf_file=name, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, given)
    answer_all(adapted, inputs)
    answer_all(train(adapted.unload(), inputs["texts"], trained), inputs)


if __name__ == "__main__":
    main()
