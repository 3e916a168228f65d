"""Renders chats of several shapes by a folder of chat templates, as `transformers` does, for the bench `templates`.

    python templates.py FOLDER > rendered.json      (transformers 5.23.0, jinja2 3.1.6)

Prints a list with one object per template, chat and set of variables: the file's name, its `template`, the `messages`,
the `variables`, and the `text`, which is null where the template refuses them.
"""

import datetime, json, pathlib, sys
from transformers.utils import chat_template_utils

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
CHATS = [
    [(USER, "Hello!")],
    [(SYSTEM, "You are a review writer."), (USER, "A kettle.")],
    [(USER, "One?"), (ASSISTANT, "Two.  "), (USER, "  Grüße, 世界 🦙 <b>&'\"</b> {{ x }} \n\n")],
    [(SYSTEM, "  Be kind.\n"), (USER, "A?"), (ASSISTANT, "B."), (USER, "C?"), (ASSISTANT, "D."), (USER, "E?")],
    [(SYSTEM, ""), (USER, "line\nline\r\n\ttab\\n\u2028end")],
    [(SYSTEM, "One."), (SYSTEM, "Two."), (USER, "Three?")],
    [(USER, "A?"), (USER, "B?")],
    [(ASSISTANT, "I begin."), (USER, "Go on.")],
    [(USER, "A?"), (ASSISTANT, "ends with the assistant")],
]
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "The weather's <b>\"state\"</b> & 'more' in Zürich\n",
    "parameters": {"type": "object", "required": ["town"], "properties": {
        "town": {"type": "string", "description": "A town"}, "days": {"type": "integer", "enum": [1, 2.5, True, None]}}}}}
VARIABLES = [
    {"enable_thinking": False, "thinking": False},
    {"enable_thinking": True, "thinking": True},
    {"enable_thinking": False, "thinking": False, "tools": [TOOL]},
]


class Midnight(datetime.datetime):
    """The one date that prompts have."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, tzinfo=tz)


def rendered(template, messages, variables):
    settings = dict(bos_token="<bos>", eos_token="<eos>", add_generation_prompt=True, **variables)
    try:
        return chat_template_utils.render_jinja_template([messages], chat_template=template, **settings)[0][0]
    except Exception as error:
        print(f"refused: {error}", file=sys.stderr)
        return None


chat_template_utils.datetime = Midnight
items = []
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
    template = path.read_text(encoding="utf-8")
    for chat in CHATS:
        messages = [{"role": role, "content": content} for role, content in chat]
        for variables in VARIABLES:
            text = rendered(template, messages, variables)
            items.append({"name": path.stem, "template": template, "messages": messages, "variables": variables, "text": text})
json.dump(items, sys.stdout)
