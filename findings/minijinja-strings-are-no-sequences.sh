#!/bin/sh
# minijinja 3.1.0 beside Jinja2 3.1.6: three constructs take the other branch, without an error.
#
# The same template text is rendered by both, as programs in Rust do with chat templates that were written for Jinja2.
# `is sequence` is false of a string, so a template that tells text from parts by it reads the text as parts. A number
# compares with a string, where Jinja2 raises an error. A loop over `none` takes its `else`, where Jinja2 raises an error, so a
# template that is meant to fail on a missing list writes a prompt without it.
#
# Seen:      sequence: jinja2 text, minijinja parts; comparison: jinja2 TypeError, minijinja less; loop: jinja2 TypeError,
#            minijinja empty
# Expected:  one branch. minijinja is described as following the syntax and behaviour of Jinja2, its list of tests has the
#            same names, and `is iterable` is true of strings in both.
# Matters:   src/prompt/jinja.rs defines the tests `sequence` and `iterable` anew, and tests/it/prompts.rs holds them to
#            Python's values.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --disable-pip-version-check -q minijinja==3.1.0 jinja2==3.1.6
cat >"$folder/branches.py" <<'PYTHON'
import jinja2
import minijinja

TEMPLATES = {
    "sequence": "{% if content is sequence %}text{% else %}parts{% endif %}",
    "comparison": "{% if 1 < content %}less{% else %}more{% endif %}",
    "loop": "{% for tool in tools %}{{ tool }}{% else %}empty{% endfor %}",
}
CONTEXT = {"content": "hello", "tools": None}


def rendered(render):
    try:
        return render()
    except Exception as error:
        return type(error).__name__


seen = []
for name, source in TEMPLATES.items():
    theirs = rendered(lambda: jinja2.Environment().from_string(source).render(**CONTEXT))
    ours = rendered(lambda: minijinja.Environment().render_str(source, **CONTEXT))
    seen.append(f"{name}: jinja2 {theirs}, minijinja {ours}")
print("; ".join(seen))
PYTHON
seen=$("$folder/venv/bin/python" "$folder/branches.py")
echo "$seen"
expected="sequence: jinja2 text, minijinja parts; comparison: jinja2 TypeError, minijinja less; loop: jinja2 TypeError, minijinja empty"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed" >&2; exit 1; }
