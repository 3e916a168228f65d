"""Imports chats of messengers in the shapes that people have, and prints a verdict for each.

    python benches/cases/messengers.py --cases ../shared/cases [--program target/release/cope-llama]

CASES/messengers and CASES/messengers2 hold the files. A file is read right if the user's history is the expected one, and
stderr says how much was left of it and why. Where the file does not tell whose export it is, an import without --author
must end with 1 and one line that lists the people with their counts, and leave no user behind.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ALONE = "U: Write a text."
NOTICE = "1 skipped: a notice of the messenger"
ATTACHMENT = "1 skipped: an attachment without a text"

# For each file the author, the messages of each example, what stderr has to say, and the people whom an import without an
# author lists; None where the file tells whose it is.
CASES = {
    "messengers/WhatsApp Chat with Nora.txt": (
        "Tom Berg",
        [
            ["U: are you bringing the ladder?", "A: aye, and the paint\nand two brushes"],
            [ALONE, "A: lovely shade of mud that"],
        ],
        [NOTICE, ATTACHMENT],
        ["Tom Berg (2)", "Nora Lind (1)"],
    ),
    "messengers/_chat.txt": (
        "Tom Berg",
        [["U: home yet?", "A: nearly. train is asleep"]],
        [NOTICE, ATTACHMENT],
        ["Nora Lind (1)", "Tom Berg (1)"],
    ),
    "messengers/result.json": (
        "Tom Berg",
        [["U: home yet?", "A: nearly. train is asleep"]],
        [],
        ["Nora Lind (1)", "Tom Berg (1)"],
    ),
    "messengers2/discord.json": (
        "tomb",
        [["U: who has the ladder", "A: me, obviously"]],
        [],
        ["nora (1)", "tomb (1)"],
    ),
    # The newest message comes first: the user has begun.
    "messengers2/message_1.json": (
        "Tom Berg",
        [[ALONE, "A: très bien ☕"]],
        [],
        ["Tom Berg (1)", "Zoë (1)"],
    ),
    "messengers2/messages.csv": ("Tom Berg", [[ALONE, "A: who has the ladder"]], [], None),
    "messengers2/messages.json": ("Tom Berg", [[ALONE, "A: i have the ladder"]], [], None),
}


def history(home):
    """The messages of each example of the user's, each with the first letter of its role."""
    path = home / "users" / "tom" / "history.jsonl"
    if not path.exists():
        return None
    marks = {"system": "S", "user": "U", "assistant": "A"}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [[f"{marks[it['role']]}: {it['content']}" for it in line["messages"]] for line in lines]


def read_wrong(done, found, expected, words):
    """The reason why what was read is wrong; None if it is right."""
    said = done.stderr.strip()
    if done.returncode != 0:
        return f"refused: {said}"
    if found != expected:
        return f"read as {found}"
    missing = [word for word in words if word not in said]
    return f"does not say {missing}: {said}" if missing else None


def asked_wrong(done, found, people):
    """The reason why the question for the author is wrong; None if it is right."""
    said = done.stderr.strip()
    if done.returncode != 1 or found is not None:
        return f"exit {done.returncode}, read as {found}"
    if len(said.splitlines()) != 1:
        return f"not one line: {said}"
    missing = [word for word in [", ".join(people), "--author NAME"] if word not in said]
    return f"does not say {missing}: {said}" if missing else None


def imported(program, path, options):
    """The process of an import, and the user's history after it."""
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        done = subprocess.run(
            [program.resolve(), "user", "import", "tom", path, *options],
            env={**os.environ, "COPE_HOME": str(home)}, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )
        return done, history(home)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/cope-llama"))
    options = parser.parse_args()
    verdicts = []
    for name, (author, expected, words, people) in CASES.items():
        path = options.cases / name
        done, found = imported(options.program, path, ["--author", author])
        verdicts.append((name, read_wrong(done, found, expected, words)))
        done, found = imported(options.program, path, [])
        why = read_wrong(done, found, expected, words) if people is None else asked_wrong(done, found, people)
        verdicts.append((f"{name} without --author", why))
        for name, why in verdicts[-2:]:
            print(f"{'right' if why is None else 'WRONG'}  {name}" + (f": {why}" if why else ""), flush=True)
    n_right = sum(why is None for _, why in verdicts)
    print(f"{n_right} of {len(verdicts)} right")
    sys.exit(n_right != len(verdicts))


if __name__ == "__main__":
    main()
