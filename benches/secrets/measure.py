"""Measures how many planted secrets `user import` masks, and how many texts of real data sets it alters.

    make bench-secrets
    python benches/secrets/measure.py --program target/release/cope-llama --seeds 101 102 --sets data/lamp --show 20

A planted secret is found if nothing of it is left: none of its runs of eight characters, and not the whole of a shorter one.
A text is exact if a placeholder stands in the secret's place and all else is unchanged. Of the data sets, each text of a
profile is an item of its own, and one that changes is a false alarm, whatever it holds.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

PLANT = pathlib.Path(__file__).with_name("plant.py")


def imported(program, items, *options):
    """What a program stores of items: the responses by the prompts, or in order if `items` is a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "items.jsonl"
        path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
        env = {**os.environ, "COPE_HOME": f"{folder}/home"}
        command = [program, "user", "import", "tom", str(path), *options]
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=3600)
        lines = (pathlib.Path(folder) / "home/users/tom/history.jsonl").read_text().splitlines()
    return [[message["content"] for message in json.loads(line)["messages"]] for line in lines]


def is_found(secret, text):
    pieces = [secret[i : i + 8] for i in range(max(len(secret) - 7, 1))]
    if secret.startswith("-----"):
        pieces = [line for line in secret.splitlines() if not line.startswith("-----")]
    elif " " in secret and secret[:1].islower() or "\n" in secret:
        pieces = [secret]
    return not any(piece in text for piece in pieces)


def planted(program, seed, show):
    """For each kind, the numbers of planted, found and exactly masked secrets."""
    output = subprocess.run([sys.executable, PLANT, "--seed", str(seed)], check=True, capture_output=True, text=True).stdout
    items = [json.loads(line) for line in output.splitlines()]
    counts = collections.defaultdict(lambda: [0, 0, 0])
    texts = imported(program, [{side: item[side] for side in ("prompt", "response")} for item in items])
    for item, (prompt, response) in zip(items, texts, strict=True):
        for planted in item["secrets"]:
            before, text = item[planted["side"]], {"prompt": prompt, "response": response}[planted["side"]]
            head, tail = before.split(planted["secret"], 1)
            found = is_found(planted["secret"], text)
            exact = re.fullmatch(re.escape(head.strip()) + r"\s*(1\. )?\[[\w -]+\]\s*" + re.escape(tail.strip()), text.strip())
            for i, value in enumerate((1, found, bool(exact))):
                counts[planted["kind"]][i] += value
            if show and not (found and exact):
                print(f"  {'missed' if not found else 'inexact'} {planted['kind']}: {planted['secret'][:80]!r} in {text[:300]!r}")
    return counts


def texts_of(path):
    for user in json.loads(path.read_text())["users"]:
        for item in user["profile"]:
            for name in ("text", "title", "abstract", "summary", "description", "reviewText", "content"):
                if isinstance(item.get(name), str) and item[name].strip():
                    yield item[name]


def alarms(program, path, show):
    """The number of texts of a data set, and of those that masking alters."""
    items = [{"prompt": f"text {i}", "response": text} for i, text in enumerate(texts_of(path))]
    kept = dict(imported(program, items, "--keep-secrets"))
    masked = dict(imported(program, items))
    altered = [prompt for prompt in kept if kept[prompt] != masked[prompt]]
    for prompt in altered[:show]:
        for match in re.finditer(r"\[(?:[A-Z]{3}|[a-z]+(?: [a-z]+)?)\]", masked[prompt]):
            context = masked[prompt][max(match.start() - 60, 0) : match.end() + 40]
            if context not in kept[prompt]:
                print(f"  {path.stem}: {context!r}")
    return len(kept), len(altered)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--sets", type=pathlib.Path)
    parser.add_argument("--show", type=int, default=0, metavar="N")
    args = parser.parse_args()
    totals = collections.defaultdict(lambda: [0, 0, 0])
    for seed in args.seeds:
        for kind, counts in planted(args.program, seed, args.show).items():
            totals[kind] = [a + b for a, b in zip(totals[kind], counts)]
    if totals:
        totals["all"] = [sum(column) for column in zip(*totals.values())]
        print("| kind | planted | found | exact |\n|---|---|---|---|")
        for kind, (n, found, exact) in totals.items():
            print(f"| {kind} | {n} | {found / n:.3f} | {exact / n:.3f} |")
    if args.sets:
        rows = [(path.stem, *alarms(args.program, path, args.show)) for path in sorted(args.sets.glob("*_*.json"))]
        rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
        print("\n| set | texts | altered | per cent |\n|---|---|---|---|")
        for name, n, altered in rows:
            print(f"| {name} | {n} | {altered} | {100 * altered / n:.3f} |")


if __name__ == "__main__":
    main()
