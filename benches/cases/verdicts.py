"""Imports the files of a folder of cases, and prints a verdict for each.

A file is read right if the user's history is the expected one, and stderr says how much was left of it and why. A refusal is
right if it is one line with the words that name the cause, exits with 1, and leaves no user behind. Each file is tried alone,
in a folder and in a zip archive, there beside a picture.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PICTURE = b"\x89PNG\r\n\x1a\n"


def history(home):
    """The messages of each example of the user's, each with the first letter of its role."""
    path = home / "users" / "tom" / "history.jsonl"
    if not path.exists():
        return None
    marks = {"system": "S", "user": "U", "assistant": "A"}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [[f"{marks[it['role']]}: {it['content']}" for it in line["messages"]] for line in lines]


def flaw(done, found, expected, words):
    """The reason why the outcome is wrong; None if it is right. `expected` is None for a refusal."""
    said = done.stderr.strip()
    if expected is None:
        if done.returncode != 1:
            return f"exit {done.returncode}, read as {found}"
        if found is not None:
            return "a user is left behind"
        if len(said.splitlines()) != 1:
            return f"not one line: {said}"
    elif done.returncode != 0:
        return f"refused: {said}"
    elif found != expected:
        return f"read as {found}"
    missing = [word for word in words if word not in said]
    return f"does not say {missing}: {said}" if missing else None


def forms(files, folder):
    """The paths by which files are given: alone, in a folder and in an archive."""
    yield "alone", files[0]
    inside = folder / "export"
    inside.mkdir()
    for file in files:
        shutil.copy(file, inside)
    (inside / "photo.png").write_bytes(PICTURE)
    yield "in a folder", inside
    archive = folder / "export.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in inside.iterdir():
            zipped.write(file, f"export/{file.name}")
    yield "zipped", archive


def run(folder_name, cases, doc):
    """Tries cases. Each has the name of a file (or a list, or several with blanks between them, of files that belong together),
    further arguments, the expected history (None for a refusal), and the words that stderr has to have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/cope-llama"))
    options = parser.parse_args()
    n_right = n_tried = 0
    for names, arguments, expected, words in cases:
        names = names.split() if isinstance(names, str) else names
        files = [options.cases / folder_name / name for name in names]
        with tempfile.TemporaryDirectory() as temporary:
            temporary = pathlib.Path(temporary)
            for form, path in forms(files, temporary):
                # What a refusal says of one file may be told otherwise of several.
                if expected is None and form != "alone":
                    continue
                home = temporary / form
                home.mkdir()
                done = subprocess.run(
                    [options.program.resolve(), "user", "import", "tom", path, *arguments],
                    env={**os.environ, "COPE_HOME": str(home)}, capture_output=True, text=True, timeout=60,
                    stdin=subprocess.DEVNULL,
                )
                why = flaw(done, history(home), expected, words)
                n_tried += 1
                n_right += why is None
                case = " ".join([str(pathlib.Path(folder_name, names[0])), *arguments])
                print(f"{'right' if why is None else 'WRONG'}  {case}, {form}" + (f": {why}" if why else ""), flush=True)
    print(f"{n_right} of {n_tried} right")
    sys.exit(n_right != n_tried)
