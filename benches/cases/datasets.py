"""Imports training sets in the shapes that people have, and prints a verdict for each.

    python benches/cases/datasets.py --cases ../shared/cases [--program target/release/cope-llama]

CASES/datasets holds the files. A file is read right if the user's history is the expected one, and stderr says how much
was left of it and why. A refusal is right if it is one line with the words that name the cause, exits with 1, and leaves
no user behind.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ALPACA = [["U: Write a note to the milkman", "A: Two pints, cheers."]]
LADDER = [["U: ladder?", "A: in the shed"]]
SHED = [["U: ladder?", "A: shed"]]
PLAIN = [["U: a", "A: b"]]
ALONE = "U: Write a text."
TOOLS = "a call of a tool or its result"

# For each file the messages of each example, and what stderr has to say.
READ = {
    "alpaca.json": (ALPACA, []),
    "alpaca.jsonl": (ALPACA, []),
    "array.jsonl": (PLAIN, []),
    "messages.json": (SHED, []),
    "openai-developer.jsonl": ([["S: be Tom", "U: ladder?", "A: in the shed"]], []),
    "openai-ft.jsonl": (
        [["S: be Tom", "U: ladder?", "A: in the shed", "U: which shed", "A: the green one"]],
        ["1 skipped: an answer of weight 0"],
    ),
    "openai-tools.jsonl": ([["U: weather?", "A: take a coat"]], [f"2 skipped: {TOOLS}"]),
    "prompt-null.jsonl": ([[ALONE, "A: just so"]], []),
    "prompt.json": (SHED, []),
    "question-answer.jsonl": (LADDER, []),
    # Two answers to one question: what follows is not joined to them.
    "sharegpt-bot.jsonl": (
        LADDER + [["U: thanks", "A: no bother"]],
        ["1 skipped: an answer without a question before it"],
    ),
    "think.jsonl": ([["U: where?", "A: in the shed"]], ["thoughts of a model cut from 1 items"]),
    "trl-conv.jsonl": (LADDER, []),
    "trl-pref.jsonl": (SHED, []),
    "trl-text.jsonl": ([[ALONE, "A: in the shed, as ever"]], []),
}
# For each file the words of the one line.
REFUSED = {
    "one-bad-line.jsonl": ["line 2", '"response" is empty', '{"prompt": …, "response": …}', '{"messages": […]}'],
    "sharegpt-from.jsonl": ["no usable items", f"2 skipped: {TOOLS}", "1 skipped: an answer without a question"],
}


def history(home):
    """The messages of each example of the user's, each with the first letter of its role."""
    path = home / "users" / "tom" / "history.jsonl"
    if not path.exists():
        return None
    marks = {"system": "S", "user": "U", "assistant": "A"}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [[f"{marks[it['role']]}: {it['content']}" for it in line["messages"]] for line in lines]


def flaw(name, done, found):
    """The reason why the outcome is wrong; None if it is right."""
    said = done.stderr.strip()
    if name in READ:
        expected, words = READ[name]
        if done.returncode != 0:
            return f"refused: {said}"
        if found != expected:
            return f"read as {found}"
        missing = [word for word in words if word not in said]
        return f"does not say {missing}: {said}" if missing else None
    if done.returncode != 1:
        return f"exit {done.returncode}, read as {found}"
    if found is not None:
        return "a user is left behind"
    if len(said.splitlines()) != 1:
        return f"not one line: {said}"
    missing = [word for word in REFUSED[name] if word not in said]
    return f"does not say {missing}: {said}" if missing else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/cope-llama"))
    options = parser.parse_args()
    n_right = 0
    names = sorted(READ | REFUSED)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            home = pathlib.Path(folder)
            done = subprocess.run(
                [options.program.resolve(), "user", "import", "tom", options.cases / "datasets" / name],
                env={**os.environ, "COPE_HOME": str(home)}, capture_output=True, text=True, timeout=60,
                stdin=subprocess.DEVNULL,
            )
            why = flaw(name, done, history(home))
        n_right += why is None
        print(f"{'right' if why is None else 'WRONG'}  {name}" + (f": {why}" if why else ""), flush=True)
    print(f"{n_right} of {len(names)} right")
    sys.exit(n_right != len(names))


if __name__ == "__main__":
    main()
