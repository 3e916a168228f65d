"""Writes a copy of the wine task with a larger `dev`.

    python3 benches/eval/larger_dev.py DATA FOLDER

DATA is the folder of the LaMP files, FOLDER the one to write. An adapter is trained on the newest 100 items of a user.
For each evaluated user with more items, up to 40 of the older ones, evenly spaced, are moved from `profile` to `dev`;
the rest of them is dropped. `query` is left out.
"""

import json
import sys
from pathlib import Path

TASK = "product_review_wine"
TRAINED_ON = 100
ADDED = 40

data, folder = map(Path, sys.argv[1:])
task = json.loads((data / f"{TASK}.json").read_text())
splits = json.loads((data / "splits.json").read_text())[TASK]


def as_query(item):
    prompt = (
        "Generate the review text written by a reviewer who has a given an overall rating of "
        f'"{item["overall"]}" for a product with description "{item["description"]}".'
    )
    return {"id": item["id"], "date": "", "output": item["reviewText"], "input": prompt}


users = []
targets = []
for user in task["users"]:
    name = user["user_id"]
    older = user["profile"][:-TRAINED_ON]
    if name in splits["targets"]:
        if not older:
            continue
        n = min(ADDED, len(older))
        added = [as_query(older[i * len(older) // n]) for i in range(n)]
        profile = user["profile"][-TRAINED_ON:]
        user = {"user_id": name, "profile": profile, "dev": user["dev"] + added, "query": []}
        targets.append(name)
    users.append(user)

folder.mkdir(parents=True, exist_ok=True)
(folder / f"{TASK}.json").write_text(json.dumps(dict(task, users=users)))
splits = {TASK: {"targets": targets, "others": splits["others"]}}
(folder / "splits.json").write_text(json.dumps(splits))
