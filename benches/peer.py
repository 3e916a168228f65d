"""SFT, mining and DPO of one LoRA adapter with transformers and peft: the comparison of `benches/training.rs`.

    python benches/peer.py MODEL.gguf INPUTS.json --dtype f32|bf16 [--device cpu|cuda|mps]

INPUTS.json holds the inputs of our program, so that both do the same work: `examples` (token ids of prompt and
response), `pairs` (of prompt, chosen and rejected, for DPO), `sft` and `dpo` (for each step its items and its learning
rate), `lora_a` (the initial A of each layer's q and v; B is zero), `lora_alpha`, `n_samples`, `top_p`,
`max_new_tokens`, `beta`. Prints the machine's matmul peak, and one line of JSON per stage: seconds, tokens, the loss of
each step, and the process's peak memory so far.
"""
import argparse, json, os, resource, time
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


class Peer:
    def __init__(self, path, inputs, dtype, device):
        self.inputs, self.eos, self.device = inputs, inputs["eos"], device
        folder, name = os.path.split(os.path.abspath(path))
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        model = model.to(device, {"f32": torch.float32, "bf16": torch.bfloat16}[dtype])
        rank = len(next(iter(inputs["lora_a"].values())))
        config = LoraConfig(r=rank, lora_alpha=inputs["lora_alpha"], lora_dropout=0.0, task_type="CAUSAL_LM",
                            target_modules=["q_proj", "v_proj"])
        self.model = get_peft_model(model, config)
        self.params = []
        for key, param in self.model.named_parameters():
            if param.requires_grad:
                param.data = param.data.float()
                self.params.append(param)
                if ".lora_A." in key:
                    layer, side = key.split(".layers.")[1].split(".")[0], key.split("_proj")[0][-1]
                    param.data.copy_(torch.tensor(inputs["lora_a"][f"{layer}.{side}"]))
        self.autocast = lambda: torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bf16")

    def logps(self, rows):
        """Log-probabilities of each row's response tokens, and which they are."""
        width = max(len(prompt) + len(response) for prompt, response in rows)
        ids = torch.full((len(rows), width), self.eos)
        attended, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for i, (prompt, response) in enumerate(rows):
            n = len(prompt) + len(response)
            ids[i, :n] = torch.tensor(prompt + response)
            attended[i, :n] = 1
            scored[i, len(prompt):n] = True
        ids, attended, scored = (x.to(self.device) for x in (ids, attended, scored))
        logits = self.model(input_ids=ids, attention_mask=attended).logits[:, :-1].float()
        logps = torch.gather(F.log_softmax(logits, -1), 2, ids[:, 1:, None])[..., 0]
        return logps, scored[:, 1:]

    def sums(self, rows):
        logps, scored = self.logps(rows)
        return (logps * scored).sum(1)

    def fit(self, stage, steps, loss_of):
        optimizer = torch.optim.AdamW(self.params, weight_decay=0.01)
        start, losses = time.time(), []
        for step in steps:
            with self.autocast():
                loss = loss_of(step["items"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.params, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = step["learning_rate"]
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        report(stage, start, losses=losses)

    def sft(self):
        examples = self.inputs["examples"]

        def loss(items):
            logps, scored = self.logps([examples[i] for i in items])
            return -(logps * scored).sum() / scored.sum()

        self.fit("sft", self.inputs["sft"], loss)

    def mine(self):
        """By length, so that the samples of a batch end together."""
        inputs, start, n_tokens, negatives = self.inputs, time.time(), 0, {}
        limit = lambda i: min(len(inputs["examples"][i][1]), inputs["max_new_tokens"])
        order = sorted(range(len(inputs["examples"])), key=limit)
        for first in range(0, len(order), 8):
            items = [i for i in order[first:first + 8] for _ in range(inputs["n_samples"])]
            prompts = [inputs["examples"][i][0] for i in items]
            width = max(map(len, prompts))
            ids = torch.full((len(items), width), self.eos)
            attended = torch.zeros_like(ids)
            for row, prompt in enumerate(prompts):
                ids[row, width - len(prompt):] = torch.tensor(prompt)
                attended[row, width - len(prompt):] = 1
            ids, attended = ids.to(self.device), attended.to(self.device)
            with torch.no_grad(), self.autocast():
                with self.model.disable_adapter():
                    texts = self.model.generate(
                        input_ids=ids, attention_mask=attended, do_sample=True, temperature=1.0, top_k=0,
                        top_p=inputs["top_p"], max_new_tokens=max(map(limit, items)), pad_token_id=self.eos,
                        eos_token_id=self.eos)[:, width:].tolist()
                texts = [text[:text.index(self.eos)] + [self.eos] if self.eos in text else text for text in texts]
                rows = [(prompt, text[:limit(i)]) for prompt, text, i in zip(prompts, texts, items)]
                user = self.sums(rows)
                with self.model.disable_adapter():
                    base = self.sums(rows)
            n_tokens += sum(len(text) for _, text in rows)
            for k in range(0, len(items), inputs["n_samples"]):
                worst = k + int((user - base)[k:k + inputs["n_samples"]].argmin())
                negatives[items[k]] = rows[worst][1]
        report("mine", start, tokens=n_tokens, pairs=len(negatives))

    def dpo(self):
        pairs, beta = self.inputs["pairs"], self.inputs["beta"]

        def loss(items):
            rows = [(pairs[i][0], text) for i in items for text in pairs[i][1:]]
            with torch.no_grad(), self.model.disable_adapter():
                base = self.sums(rows)
            rewards = beta * (self.sums(rows) - base)
            return -F.logsigmoid(rewards[0::2] - rewards[1::2]).mean()

        self.fit("dpo", self.inputs["dpo"], loss)


def matmul_peak(dtype, device, n=2048, repeats=5):
    """FLOP/s of the fastest of some products of square matrices."""
    a, b = torch.rand(n, n).to(device, dtype), torch.rand(n, n).to(device, dtype)
    seconds = []
    for _ in range(repeats):
        start = time.time()
        (a @ b)[0, 0].item()
        seconds.append(time.time() - start)
    return 2 * n ** 3 / min(seconds)


def report(stage, start, **figures):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"stage": stage, "seconds": time.time() - start, "peak_mb": peak, **figures}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("inputs")
    parser.add_argument("--dtype", choices=["f32", "bf16"], required=True)
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    peak = matmul_peak({"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype], args.device)
    print(json.dumps({"stage": "matmul", "flop_s": peak}), flush=True)
    with open(args.inputs, encoding="utf-8") as file:
        peer = Peer(args.model, json.load(file), args.dtype, args.device)
    peer.sft()
    peer.mine()
    peer.dpo()


if __name__ == "__main__":
    main()
