"""Greedy answers of stock llama.cpp, in its prebuilt `xllamacpp` wheel, with an adapter of ours.

    pip install xllamacpp==2026.10.11549
    python tests/golden/consumer.py BASE.gguf ADAPTER.gguf PROMPTS.json [--predict N] [--ctx-size N] > answers.json

PROMPTS.json is a list; an item is a rendered prompt (text, special tokens are parsed) or its token ids.
Prints {"xllamacpp": version, "answers": [{"text", "tokens", "runners_up", "logprobs", "margins"}]};
the four lists have one entry per position, including the end-of-generation token: the greedy token, the
second-best token, the log-probability (nats) of the greedy one, and the margin between the two. The lists end
early at a position where llama.cpp gives two different greedy tokens when it is asked twice.
llama-server's softmax sums to slightly more than 1 (about 2e-4 nats), so compare margins, where this cancels.
"""
import argparse, json, os, sys, urllib.error, urllib.request

VERSION = "2026.10.11549"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is in this process: no proxy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "adapter", "prompts"):
        parser.add_argument(name)
    parser.add_argument("--predict", type=int, default=48, metavar="N", help="tokens an answer at most (default: 48)")
    parser.add_argument("--ctx-size", type=int, default=2048, metavar="N", help="tokens of the context (default: 2048)")
    args = parser.parse_args()
    try:
        import xllamacpp
    except ImportError as error:
        sys.exit(f"error: cannot import xllamacpp ({error}); pip install xllamacpp=={VERSION}")
    if xllamacpp.__version__ != VERSION:
        sys.exit(f"error: xllamacpp is {xllamacpp.__version__}; pip install xllamacpp=={VERSION}")
    if missing := [path for path in (args.base, args.adapter, args.prompts) if not os.path.isfile(path)]:
        sys.exit(f"error: no such file: {', '.join(missing)}")
    try:
        with open(args.prompts, encoding="utf-8") as file:
            prompts = json.load(file)
    except ValueError as error:
        sys.exit(f"error: {args.prompts} is not JSON: {error}")
    if not isinstance(prompts, list) or not prompts:
        sys.exit(f"error: {args.prompts} is not a list of prompts")
    params = xllamacpp.CommonParams()
    params.model.path = args.base
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(args.adapter, 1.0)]
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = args.ctx_size, 1, False, 0
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        sys.exit(f"error: llama.cpp refuses {args.base} with {args.adapter}: {error}")
    answers = [answer(server.listening_address, prompt, args.predict) for prompt in prompts]
    print(json.dumps({"xllamacpp": VERSION, "answers": answers}, indent=1, ensure_ascii=False))


def answer(address, prompt, n_predict):
    if isinstance(prompt, str):
        prompt = post(address, "/tokenize", content=prompt, add_special=True, parse_special=True)["tokens"]
    greedy = {"temperature": 0, "return_tokens": True}
    whole = post(address, "/completion", prompt=prompt, n_predict=n_predict, cache_prompt=False, **greedy)
    # llama-server keeps no probabilities of a token that ends inside a UTF-8 character. So each position is asked
    # for alone, with a complete token forced; the probabilities told are those before the forcing.
    forced = {"n_predict": 1, "n_probs": 2, "logit_bias": [[post(address, "/tokenize", content=".")["tokens"][-1], 1000]]}
    top = []
    for n, token in enumerate(whole["tokens"]):
        step = post(address, "/completion", prompt=prompt + whole["tokens"][:n], cache_prompt=n > 0, **greedy, **forced)
        candidates = step["completion_probabilities"][0]["top_logprobs"]
        if candidates[0]["id"] != token:
            break  # a tie for this build itself: asked again, in other batches, it chooses another token
        top.append(candidates)
    return {"text": whole["content"], "tokens": whole["tokens"][:len(top)],
            "runners_up": [second["id"] for _, second in top], "logprobs": [first["logprob"] for first, _ in top],
            "margins": [first["logprob"] - second["logprob"] for first, second in top]}


def post(address, path, **body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        return json.load(OPENER.open(request))
    except urllib.error.HTTPError as error:
        sys.exit(f"error: llama.cpp refuses {path}: {error.read().decode()}")


if __name__ == "__main__":
    main()
