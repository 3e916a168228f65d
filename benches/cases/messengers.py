"""Imports chats of messengers in the shapes that people have, and prints a verdict for each.

    python benches/cases/messengers.py --cases ../shared/cases [--program target/release/cope-llama]

CASES/messengers and CASES/messengers2 hold the files. A file is read right if the user's history is the expected one, and
stderr says how much was left of it and why. Where the file does not tell whose export it is, an import without --author
must end with 1 and one line that lists the people with their counts, and leave no user behind.
"""

import verdicts

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


def cases():
    """Each file with --author, and without it: a question for the author where the file does not tell who that is."""
    for name, (author, expected, words, people) in CASES.items():
        yield [name], ["--author", author], expected, words
        if people is None:
            yield [name], [], expected, words
        else:
            yield [name], [], None, [", ".join(people), "--author NAME"]


if __name__ == "__main__":
    verdicts.run("", cases(), __doc__)
