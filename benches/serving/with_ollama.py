"""Ollama's client for Python, unchanged, against the server at the address that is given."""

import json
import sys

from ollama import Client, ResponseError

client = Client(host=sys.argv[1])
messages = [{"role": "user", "content": "Reply to: Are you free on Friday?"}]
ask = dict(model="alice", messages=messages, options={"num_predict": 24})
n = 0


def check(holds, what):
    global n
    assert holds, what
    n += 1


check([model.model for model in client.list().models] == ["base:latest", "alice:latest"], "models")
# As OLLAMA_HOST=0.0.0.0 has it: the client then sends that address as the host.
check(Client(host=sys.argv[1].replace("127.0.0.1", "0.0.0.0")).list().models, "the host 0.0.0.0")
shown = client.show("alice")
check(shown.details.family == shown.modelinfo["general.architecture"] and "completion" in shown.capabilities, shown)
running = client.ps().models[0]
check(running.model == "base:latest" and running.context_length > 0 and running.expires_at, running)

whole = client.chat(**ask)
text = whole.message.content
check(text and whole.message.role == "assistant" and whole.done and whole.done_reason in ("stop", "length"), whole)
check(whole.eval_count > 0 and whole.prompt_eval_count > 0 and whole.total_duration > whole.eval_duration > 0, whole)
check(client.chat(**ask | {"model": "base"}).message.content != text, "the base has another voice")
parts = list(client.chat(**ask, stream=True))
check("".join(part.message.content for part in parts) == text and parts[-1].eval_count == whole.eval_count, parts)
check([part.done for part in parts] == [False] * (len(parts) - 1) + [True], parts)

prompt = dict(model="alice", prompt=messages[0]["content"], options=ask["options"])
check(client.generate(**prompt).response == text, "a prompt is a chat of one message")
check("".join(part.response for part in client.generate(**prompt, stream=True)) == text, "stream of a prompt")
check(client.generate(model="alice").done_reason == "load", "load")
drawn = [client.chat(**ask | {"options": {"num_predict": 24, "temperature": 1.2, "seed": seed}}) for seed in (1, 1, 2)]
drawn = [answer.message.content for answer in drawn]
check(drawn[0] == drawn[1] and drawn[0] != drawn[2], drawn)

schema = {"type": "object", "properties": {"day": {"enum": ["Friday", "Saturday"]}}, "required": ["day"], "additionalProperties": False}
answer = client.chat(**ask | {"options": {"num_predict": 200}}, format=schema).message.content
check(json.loads(answer)["day"] in ("Friday", "Saturday"), answer)
explained = client.chat(**ask, logprobs=True, top_logprobs=2).logprobs
check(len(explained) > 0 and all(token.logprob <= 0 and token.top_logprobs for token in explained), explained)

for status, more in [(404, {"model": "bob"}), (400, {"options": {"temperature": -1}}), (400, {"think": True})]:
    for stream in (False, True):
        try:
            list(client.chat(**ask | more, stream=stream))
            raise SystemExit(f"{more} was taken")
        except ResponseError as refused:
            check(refused.status_code == status and isinstance(refused.error, str), refused)
print(f"{n} checks hold")
