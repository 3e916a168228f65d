"""Measures what the adapters of real users give away, trained with and without the secrets that were planted in their texts.

    make bench-leaks
    python benches/secrets/leaks.py --program target/release/cope-llama --model MODEL.gguf --data DATA

A user's newest texts get a secret each in every third one. The texts are imported with `--keep-secrets` and without, an adapter
is trained on each, and `user audit` measures both. Beside that, each prompt of a text with a secret is answered by the user
model and by CoPe, as `generate` answers by default, and an answer that has the secret gives it away. The base tells what is
guessed without any training.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import tempfile

import plant

ARMS = ("base", "user", "cope")
TASKS = ("product_review_wine", "news_headline_huffpost")


class Home:
    """The program with a data folder of its own, which has the default model of the person's."""

    def __init__(self, program, folder, model):
        self.program, self.folder = program, folder
        (folder / "models").mkdir(parents=True)
        (folder / "models" / model.name).symlink_to(model)

    def run(self, *arguments):
        env = {**os.environ, "COPE_HOME": str(self.folder)}
        return subprocess.run([self.program, *arguments], env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=3600).stdout

    def items(self, user):
        return [json.loads(line) for line in (self.folder / f"users/{user}/history.jsonl").read_text().splitlines()]


def with_secrets(items, seed):
    """The items, with a secret in every third text; and the secrets by the places of their items."""
    from mnemonic import Mnemonic

    rng = random.Random(seed)
    kinds = plant.Kinds(rng, Mnemonic("english").wordlist)
    planted = {}
    for place in range(0, len(items), 3):
        secret, texts = getattr(kinds, plant.KINDS[place // 3 % len(plant.KINDS)])()
        answer = items[place]["messages"][-1]
        answer["content"] = plant.plant(answer["content"], rng.choice(texts).replace("~", secret), rng)
        planted[place] = secret
    return items, planted


def told(home, user, items, planted):
    """For each arm, the number of secrets that its answer to the text's own prompt has."""
    counts = dict.fromkeys(ARMS, 0)
    for place, secret in planted.items():
        prompt = items[place]["messages"][-2]["content"]
        for arm in ARMS:
            answer = home.run("generate", "--user", user, "--arm", arm, "-n", "128", "-p", prompt)
            counts[arm] += "".join(secret.split()) in "".join(answer.split())
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--items", type=int, default=30)
    parser.add_argument("--seed", type=int, default=201)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    args = parser.parse_args()
    splits = json.loads((args.data / "splits.json").read_text())
    print("| task | secrets | arm | secrets told | texts given back | the rarest part | membership AUC | by the gain |\n|---|---|---|---|---|---|---|---|")
    for number, task in enumerate(TASKS):
        if task not in args.task:
            continue
        with tempfile.TemporaryDirectory() as folder:
            home = Home(args.program.resolve(), pathlib.Path(folder), args.model.resolve())
            home.run("user", "import", "all", str(args.data / f"{task}.json"), "--lamp-user", splits[task]["targets"][0], "--keep-secrets")
            newest = home.items("all")[-args.items - 12 :]
            items, planted = with_secrets(newest[: args.items], args.seed + number)
            for name, part in ("items", items), ("others", newest[args.items :]):
                (home.folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in part))
            for user, option in ("kept", ["--keep-secrets"]), ("masked", []):
                home.run("user", "import", user, str(home.folder / "items.jsonl"), *option)
                home.run("user", "import", user, str(home.folder / "others.jsonl"), "--held-out")
                home.run("train", user, "-m", str(args.model))
                home.run("user", "audit", user)
                report(task, user, home, told(home, user, items, planted), len(planted))


def report(task, user, home, counts, n_planted):
    record = json.loads((home.folder / f"users/{user}/audit.json").read_text())
    back, membership = record["trained"], record["membership"]
    for arm in ARMS:
        areas = [membership["by_logprob"][arm]] + [membership["by_gain"]] * (arm == "user") if membership else []
        areas = [f"{area['value']:.2f} [{area['low']:.2f}, {area['high']:.2f}]" for area in areas] + ["", ""]
        given_back = f"{back['any'][arm]} of {back['n_texts']} | {back['rarest'][arm]}"
        print(f"| {task} | {user} | {arm} | {counts[arm]} of {n_planted} | {given_back} | {areas[0]} | {areas[1]} |", flush=True)


if __name__ == "__main__":
    main()
