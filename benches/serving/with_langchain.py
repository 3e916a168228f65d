"""LangChain's classes for Ollama, unchanged, against the server at the address that is given."""

import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_ollama import ChatOllama, OllamaLLM

n = 0


def check(holds, what):
    global n
    assert holds, what
    n += 1


ask = dict(base_url=sys.argv[1], model="alice", validate_model_on_init=True, num_predict=24, temperature=0)
chat = ChatOllama(**ask, num_ctx=2048, seed=1)
turns = [
    SystemMessage("Be brief."),
    HumanMessage("Are you free on Friday?"),
    AIMessage("Perhaps."),
    HumanMessage("And on Saturday?"),
]
whole = chat.invoke(turns)
check(whole.content and whole.usage_metadata["output_tokens"] > 0, whole)
check(whole.response_metadata["done_reason"] in ("stop", "length"), whole)
check("".join(part.content for part in chat.stream(turns)) == whole.content, "stream")
form = {"title": "date", "type": "object", "properties": {"day": {"enum": ["Friday", "Saturday"]}}, "required": ["day"]}
formed = ChatOllama(**ask | {"num_predict": 200}).with_structured_output(form, method="json_schema").invoke(turns)
check(formed["day"] in ("Friday", "Saturday"), formed)
text = OllamaLLM(**ask)
answer = text.invoke("Are you free on Friday?")
check(answer and "".join(text.stream("Are you free on Friday?")) == answer, answer)
try:
    ChatOllama(**ask | {"model": "bob"})
    raise SystemExit("bob is there")
except ValueError as refused:
    check("not found" in str(refused), refused)
print(f"{n} checks hold")
