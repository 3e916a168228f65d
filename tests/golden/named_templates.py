"""Writes named_templates.json: chats rendered by llama.cpp's own templates, by their names.

    python named_templates.py FOLDER      (FOLDER has llama.cpp's shared libraries, as `make sampler` links them)
"""

import ctypes, glob, json, os, sys

NAMES = ["chatml", "llama2", "llama2-sys", "llama2-sys-bos", "llama2-sys-strip", "mistral-v1", "mistral-v3",
         "mistral-v3-tekken", "mistral-v7", "mistral-v7-tekken", "phi3", "phi4", "falcon3", "zephyr", "gemma", "openchat",
         "vicuna", "vicuna-orca", "deepseek", "deepseek2", "deepseek3", "command-r", "llama3", "llama4", "granite",
         "granite-4.0", "granite-4.1", "smolvlm", "exaone3", "exaone4", "exaone-moe", "rwkv-world"]
CHATS = [
    [("user", "Hello!")],
    [("system", " You are a \"review\" writer. "), ("user", " A kettle.\n")],
    [("system", "Be kind."), ("user", "One?"), ("assistant", " Two. "), ("user", "Why?"), ("assistant", "So."), ("user", "Grüße")],
]


class Message(ctypes.Structure):
    _fields_ = [("role", ctypes.c_char_p), ("content", ctypes.c_char_p)]


[path] = glob.glob(os.path.join(sys.argv[1], "libllama.so*")) or glob.glob(os.path.join(sys.argv[1], "*.dylib"))
llama = ctypes.CDLL(path)
chats = []
for name in NAMES:
    for chat in CHATS:
        messages = (Message * len(chat))(*[(role.encode(), content.encode()) for role, content in chat])
        buffer = ctypes.create_string_buffer(1 << 16)
        n = llama.llama_chat_apply_template(name.encode(), messages, len(chat), True, buffer, len(buffer))
        assert n >= 0, name
        chats.append({"name": name, "messages": [dict(zip(("role", "content"), it)) for it in chat], "text": buffer.raw[:n].decode()})
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "named_templates.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(chat, ensure_ascii=False) for chat in chats) + "\n]\n")
