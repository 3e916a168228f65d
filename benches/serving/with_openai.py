"""OpenAI's client for Python, unchanged, against the server at the address that is given."""

import json
import sys

from openai import BadRequestError, NotFoundError, OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none")
messages = [{"role": "user", "content": "Reply to: Are you free on Friday?"}]
ask = dict(model="alice", messages=messages, max_tokens=24)
n = 0


def check(holds, what):
    global n
    assert holds, what
    n += 1


check([model.id for model in client.models.list()] == ["base", "alice"], "models")
whole = client.chat.completions.create(**ask)
text = whole.choices[0].message.content
check(text and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole)
check(client.chat.completions.create(**ask).choices[0].message.content == text, "the same again")
base = client.chat.completions.create(**ask | {"model": "base"}).choices[0].message.content
check(base != text, "the base has another voice")

chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
check("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text, "stream")
check(chunks[-1].usage.total_tokens == whole.usage.total_tokens, chunks[-1])

stop = text[8:11]
stopped = client.chat.completions.create(**ask, stop=[stop]).choices[0]
check(stopped.finish_reason == "stop" and stopped.message.content == text[: text.index(stop)], stopped)

answer = client.chat.completions.create(**ask, logprobs=True, top_logprobs=3).choices[0]
explained = answer.logprobs.content
check(all(token.logprob <= 0 and len(token.top_logprobs) >= 1 for token in explained), explained)
check(b"".join(bytes(token.bytes) for token in explained).decode(errors="replace") == answer.message.content, explained)
check(all(0 < token.model_extra["p_base"] <= 1 for token in explained), "p_base")

drawn = [client.chat.completions.create(**ask, temperature=1.2, seed=seed).choices[0].message.content for seed in (1, 1, 2)]
check(drawn[0] == drawn[1] and drawn[0] != drawn[2], drawn)

schema = {
    "type": "object",
    "properties": {"day": {"enum": ["Friday", "Saturday"]}, "hour": {"type": "integer", "minimum": 0, "maximum": 23}},
    "required": ["day", "hour"],
    "additionalProperties": False,
}
form = {"type": "json_schema", "json_schema": {"name": "date", "schema": schema}}
formed = client.chat.completions.create(**ask | {"max_tokens": 200}, response_format=form)
answer = json.loads(formed.choices[0].message.content)
check(answer["day"] in ("Friday", "Saturday") and 0 <= answer["hour"] <= 23, answer)

completion = client.completions.create(model="alice", prompt="Dear Ines,", max_tokens=12, logprobs=2)
check(completion.choices[0].text and len(completion.choices[0].logprobs.tokens) == completion.usage.completion_tokens, completion)
streamed = client.completions.create(model="alice", prompt="Dear Ines,", max_tokens=12, stream=True)
check("".join(chunk.choices[0].text for chunk in streamed) == completion.choices[0].text, "stream of a text")

respond = dict(model="alice", input=messages[0]["content"], max_output_tokens=24)
response = client.responses.create(**respond)
check(response.output_text == text and response.usage.output_tokens == whole.usage.completion_tokens, response)
events = list(client.responses.create(**respond, stream=True))
check("".join(event.delta for event in events if event.type == "response.output_text.delta") == text, "stream of a response")
check(events[-1].type in ("response.completed", "response.incomplete") and events[-1].response.output_text == text, events[-1])
turns = [*messages, *[item.model_dump() for item in response.output], {"role": "user", "content": "Why?"}]
check(client.responses.create(**respond | {"input": turns}, instructions="Be brief.").output_text, "an output sent back")
check(client.models.retrieve("alice").id == "alice", "one model")

contrasts = [client.chat.completions.create(**ask, extra_body={"contrast": x}).choices[0].message.content for x in (0, 0.5)]
check(contrasts[0] != contrasts[1], contrasts)
for error, more in [(NotFoundError, {"model": "bob"}), (BadRequestError, {"temperature": -1})]:
    try:
        client.chat.completions.create(**ask | more)
        raise SystemExit(f"{more} was taken")
    except error as refused:
        check(refused.body["message"], refused)
print(f"{n} checks hold")
