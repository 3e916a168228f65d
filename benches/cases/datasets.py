"""Imports training sets in the shapes that people have, and prints a verdict for each (verdicts.py).

    python benches/cases/datasets.py --cases ../shared/cases [--program target/release/cope-llama]

CASES/datasets holds the files.
"""

import verdicts

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

CASES = [(name, [], *right) for name, right in READ.items()]
CASES += [(name, [], None, words) for name, words in REFUSED.items()]

if __name__ == "__main__":
    verdicts.run("datasets", CASES, __doc__)
