#!/bin/sh
# transformers 5.23.0, tokenizers as it requires: a saved tokenizer has one token more when a Qwen2 configuration lies beside it.
#
# A tokenizer of 258 tokens is saved with `save_pretrained` and loaded with `AutoTokenizer`. Alone, and beside the
# configurations of nearly all families, it comes back with 258 tokens. Beside the configuration of Qwen2, which says
# `vocab_size` 258 too, it comes back as another class with 259: `<|endoftext|>` was added, with the id 258, for which the model
# has no row.
#
# Seen:      alone: 258 tokens; LlamaConfig: 258 tokens; Qwen3_5TextConfig: 258 tokens; Qwen2Config: 259 tokens
# Expected:  what `save_pretrained` wrote. Its documentation says that a tokenizer can be loaded again with
#            `from_pretrained`, and nothing in the saved files names `<|endoftext|>`. Other classes replace their tokens by
#            those of the saved file.
# Matters:   llama.cpp's converter refuses such a folder with a bare AssertionError; the vocabularies of
#            benches/exchange/families.py therefore hold `<|endoftext|>`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --disable-pip-version-check -q transformers==5.23.0
cat >"$folder/grow.py" <<'PYTHON'
import sys
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

folder = sys.argv[1]
transformers.logging.set_verbosity_error()
words = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["ab", "<end>"]
tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, [("a", "b")]))
tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
saved = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
saved.save_pretrained(folder)
sizes = {"alone": len(transformers.AutoTokenizer.from_pretrained(folder))}
for config in (transformers.LlamaConfig, transformers.Qwen3_5TextConfig, transformers.Qwen2Config):
    config(vocab_size=len(words)).save_pretrained(folder)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    sizes[config.__name__] = len(loaded)
print("; ".join(f"{name}: {size} tokens" for name, size in sizes.items()))
print("the token of id 258:", loaded.convert_ids_to_tokens(258))
PYTHON
seen=$("$folder/venv/bin/python" "$folder/grow.py" "$folder/model" 2>/dev/null)
echo "$seen"
[ "$seen" = "alone: 258 tokens; LlamaConfig: 258 tokens; Qwen3_5TextConfig: 258 tokens; Qwen2Config: 259 tokens
the token of id 258: <|endoftext|>" ]
