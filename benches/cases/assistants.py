"""Imports chats of Claude, Gemini, LibreChat, Open WebUI and SillyTavern, and prints a verdict for each (verdicts.py).

    python benches/cases/assistants.py --cases ../shared/cases [--program target/release/cope-llama]

CASES/assistants holds the files.
"""

import verdicts

ASSISTANT = ["--speaker", "assistant"]
BREAD = 'U: Start a chat about "Bread that failed".'
WHY, YEAST, FAIR = "my loaf came out flat as a board, why", "Old yeast.", "it says best before 2019. fair."
SLUGS = "how do i keep slugs off my beans"
BEANS = 'U: Start a chat about "Beans".'

CASES = [
    (
        "claude-conversations.json",
        [],
        [[BREAD, f"A: {WHY}"], [BREAD, f"A: {WHY}", f"U: {YEAST}", f"A: {FAIR}"]],
        ["of chats of Claude the person's texts"],
    ),
    ("claude-conversations.json", ASSISTANT, [[f"U: {WHY}", f"A: {YEAST}"]], ["of chats of Claude the assistant's texts"]),
    ("MyActivity.json", [], [["U: Start a chat.", f"A: {SLUGS}"]], ["of chats of Gemini the person's texts"]),
    ("MyActivity.json", ASSISTANT, [[f"U: {SLUGS}", "A: Copper tape."]], []),
    ("librechat.json", [], [[BEANS, "A: when to sow?"]], ["of chats of LibreChat the person's texts"]),
    ("librechat.json", ASSISTANT, [["U: when to sow?", "A: Nov."]], []),
    ("open-webui.json", [], [[BEANS, "A: when do i sow broad beans?"]], ["of chats of Open WebUI the person's texts"]),
    ("open-webui.json", ASSISTANT, [["U: when do i sow broad beans?", "A: November."]], []),
    ("tavern.jsonl", [], [["U: Ahoy.", "A: ahoy yourself"]], ["of chats of SillyTavern the person's texts"]),
    ("tavern.jsonl", ASSISTANT, [["U: Start a chat.", "A: Ahoy."]], []),
]

if __name__ == "__main__":
    verdicts.run("assistants", CASES, __doc__)
