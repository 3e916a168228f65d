"""Imports files of LaMP and LongLaMP, and prints a verdict for each (verdicts.py).

    python benches/cases/lamp.py --cases ../shared/cases [--program target/release/cope-llama]

CASES/lamp holds the files.
"""

import verdicts

HEADLINES = "S: You are a news headline generator."
REVIEWS = "S: You are a review writer."
ABSTRACTS = "S: You are an abstract writer."


def headline(article, title):
    return [HEADLINES, f"U: Generate a headline for the following article: {article}", f"A: {title}"]


def abstract(title, text):
    return [ABSTRACTS, f'U: Generate an abstract for the title "{title}"', f"A: {text}"]


MILL = [
    headline("The ferry stops at noon.", "Noon Ends the Ferry"),
    headline("Two goats were found on the roof.", "Goats, Up There"),
    headline("The old mill is to be a library.", "Mill Turns a Page"),
]
RAIN = [headline("It rained.", "Wet"), headline("Rain again.", "Rain, Rain")]
KETTLE = [
    [
        REVIEWS,
        'U: Generate the review text written by a reviewer who has a given an overall rating of "5.0" for a product '
        'with description "a kettle". The summary of the review text is "good".',
        "A: It boils.",
    ]
]
QUESTIONS = "train_questions.json train_outputs.json"

CASES = [
    (QUESTIONS, ["--lamp-user", "110"], MILL, []),
    (QUESTIONS, ["--lamp-user", "111"], RAIN, []),
    ("train_questions.json", [], None, ["holds 2 users (110, 111, …)"]),
    ("train_outputs.json", [], None, ["import the questions (train_questions.json)"]),
    ("merged.json", [], MILL, []),
    ("merged.json", ["--lamp-user", "7"], MILL, []),
    ("longlamp.jsonl", ["--lamp-user", "ann"], [abstract("Fast Tea", "We do not steep."), abstract("Slow Tea", "We steep.")], []),
    ("own-number.json", [], KETTLE, []),
    ("own-id-number.json", ["--lamp-user", "12"], KETTLE, []),
    ("own-taskname.json", [], [headline("t", "x")], []),
]

if __name__ == "__main__":
    verdicts.run("lamp", CASES, __doc__)
