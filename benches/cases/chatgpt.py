"""Imports exports of ChatGPT, and prints a verdict for each (verdicts.py).

    python benches/cases/chatgpt.py --cases ../shared/cases [--program target/release/cope-llama]

CASES/chatgpt holds the files.
"""

import verdicts

SOUP, LEEK, ONIONS = "Give me a soup for six, no onions please!", "Leek soup.", "leeks ARE onions, mate"
SHED, GREEN, THEN = "what colour would you paint this shed?", "Green.", "green it is then"


def chat(title, *said):
    """The examples of a chat that the person begins and ends, with the title for what was asked first."""
    marks = ["U", "A"]
    messages = [f"{marks[number % 2]}: {text}" for number, text in enumerate([f'Start a chat about "{title}".', *said])]
    return [messages[:2], messages]


SOUPS = chat("Soup for Lena", SOUP, LEEK, ONIONS)
SHEDS = chat("Photo of the shed", SHED, GREEN, THEN)
PICTURE = "1 skipped: a picture"
OWN = "of chats of ChatGPT the person's texts"

CASES = [
    ("conversations-000.json", [], SOUPS, [OWN]),
    ("conversations-001.json", [], SHEDS, [OWN, PICTURE]),
    (
        "conversations.json",
        [],
        SOUPS + SHEDS,
        [PICTURE, "1 skipped: a recording", "2 skipped: a chat without a question"],
    ),
    ("null-content.json", [], [[f"U: {LEEK}", f"A: {ONIONS}"]], ["1 skipped: an empty message"]),
    ("object.json", [], SOUPS + SHEDS, [PICTURE]),
    ("one-chat.json", [], SOUPS, []),
    (
        "conversations.json",
        ["--speaker", "assistant"],
        [[f"U: {SOUP}", f"A: {LEEK}"], [f"U: {SHED}", f"A: {GREEN}"]],
        ["of chats of ChatGPT the assistant's texts", PICTURE],
    ),
]

if __name__ == "__main__":
    verdicts.run("chatgpt", CASES, __doc__)
