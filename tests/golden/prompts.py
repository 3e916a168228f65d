"""Writes prompts.json: chats rendered by `transformers`, with templates that use the features of real ones, and with the
default model's own template together with the token ids.

    python prompts.py SmolLM2-135M-Instruct.Q4_1.gguf      (transformers 5.23.0, jinja2, gguf)
"""

import json, os, sys
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = {
    "chatml as Qwen2.5 writes it": """\
{%- if tools %}
    {{- '<tools>' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "turns as Gemma writes them": """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("the speakers must take turns") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
""",
    "methods of Python, loop controls, blocks on lines of their own": """\
{% set ns = namespace(n=0) %}
{% for message in messages %}
    {% if message['role'] == 'system' %}
        {% continue %}
    {% endif %}
    {% set ns.n = ns.n + 1 %}
{{ ns.n }}: {{ message.content.strip().split(' ')[-1].upper() }}{{ '!' if message.content.startswith('O') else '' }}
{% generation %}{{ message['content'] | trim | replace('e', 'E') }}{% endgeneration %}

{% endfor %}
{{ eos_token -}}
""",
}
CHATS = [
    [("user", "Hello!")],
    [("system", "You are a review writer."), ("user", "A kettle.")],
    [("user", "One?"), ("assistant", "Two.  "), ("user", "  Grüße, 世界 🦙 <b>&'\"</b> \n\n")],
]

chats = [[{"role": role, "content": content} for role, content in chat] for chat in CHATS]
rendered = []
for name, template in TEMPLATES.items():
    settings = dict(chat_template=template, add_generation_prompt=True, bos_token="<bos>", eos_token="<eos>")
    texts = render_jinja_template(conversations=chats, **settings)[0]
    rendered.append({"name": name, "template": template, "chats": [{"messages": m, "text": t} for m, t in zip(chats, texts)]})

folder, file = os.path.split(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder or ".", gguf_file=file)
default = []
for messages in chats:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    default.append({"messages": messages, "text": text, "tokens": tokenizer(text, add_special_tokens=False).input_ids})

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "prompts.json"), "w") as out:
    json.dump({"templates": rendered, "default_model": default}, out, ensure_ascii=False, indent=1)
    out.write("\n")
