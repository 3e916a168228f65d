"""Tries the program on adapters and bases in the shapes that other programs write, and prints a verdict for each.

    python benches/cases/adapters.py --cases ../shared/cases --vocabs VOCABS [--program target/release/cope-llama]

CASES/tools holds mkbase.py and mkpeft.py, which make the inputs. VOCABS is the folder of vocabulary files
(vendor/llama.cpp/models) in the source archive of llama-cpp-python. Needs numpy, safetensors and gguf.

An adapter is read right if B·A times the factor in the GGUF file, or the change of a merged base, equals that of its own
format. A refusal is right if it
is one line of stderr with the words that name the cause, exits with 1 or 2, and leaves no file behind.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy
from safetensors.numpy import load_file

MODULES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
}
MLX = {
    "fine_tune_type": "lora", "num_layers": 2,
    "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0},
}
HEADS = {"attn_q": 4, "attn_k": 2}


class Cases:
    def __init__(self, options):
        self.program = options.program.resolve()
        self.tools = (options.cases / "tools").resolve()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cases-"))
        self.env = {**os.environ, "VOCABS": str(options.vocabs.resolve()), "COPE_HOME": str(self.folder / "home")}
        self.verdicts = []

    def make(self, tool, *arguments):
        subprocess.run([sys.executable, self.tools / tool, *arguments], cwd=self.folder, env=self.env, check=True)

    def peft(self, name, *arguments):
        self.make("mkpeft.py", name, *arguments)
        return self.folder / name

    def run(self, *arguments):
        try:
            return subprocess.run(
                [self.program, *map(str, arguments)], cwd=self.folder, env=self.env, capture_output=True, text=True,
                errors="replace", timeout=120, stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return None

    def note(self, case, flaw, said=""):
        self.verdicts.append(flaw is None)
        print(f"{'right' if flaw is None else 'WRONG'}  {case}" + (f": {flaw}" if flaw else ""), flush=True)
        if said:
            print(f"         {said}", flush=True)

    def converted(self, case, adapter, base, factor, weights=None):
        """The adapter becomes a GGUF file that changes each weight by `factor(module)` times B·A."""
        out = self.folder / "out.gguf"
        out.unlink(missing_ok=True)
        done = self.run("convert", "adapter", adapter, out, "--base", base)
        if done is None or done.returncode != 0 or not out.exists():
            return self.note(case, "not converted", done.stderr.strip() if done else "it hangs")
        expected = deltas_of_peft(weights or adapter, factor, base)
        got = deltas_of_gguf(out)
        if expected.keys() != got.keys():
            return self.note(case, f"adapts {sorted(got)}")
        error = max(numpy.abs(got[name] - expected[name]).max() / numpy.abs(expected[name]).max() for name in got)
        self.note(case, None if error < 1e-5 else f"the change is off by {error:.1e}")

    def taken(self, case, *arguments, tensors_of=None):
        """The command succeeds; what it writes has the tensors of the model `tensors_of`."""
        out = self.folder / "out.gguf"
        out.unlink(missing_ok=True)
        done = self.run(*arguments)
        flaw = None
        if done is None:
            flaw = "it hangs"
        elif done.returncode != 0:
            flaw = done.stderr.strip()
        elif tensors_of and weights(out).keys() != weights(self.folder / tensors_of).keys():
            flaw = "it writes other tensors"
        self.note(case, flaw)

    def merged(self, case, base, adapter, whole):
        """The base changes by the adapter plain.gguf; q, k and v may be one matrix. `whole` is the base as one file."""
        out = self.folder / "out.gguf"
        out.unlink(missing_ok=True)
        done = self.run("convert", "merge", base, adapter, "--output", out)
        if done is None or done.returncode != 0:
            return self.note(case, done.stderr.strip() if done else "it hangs")
        deltas = deltas_of_gguf(self.folder / "plain.gguf")
        before, after = weights(self.folder / whole), weights(out)
        if before.keys() != after.keys():
            return self.note(case, "it writes other tensors")
        error = 0
        for name in before:
            parts = [name.replace("attn_qkv", f"attn_{it}") for it in "qkv"] if "attn_qkv" in name else [name]
            zero = numpy.zeros_like(before[name])
            delta = numpy.vstack([deltas[it] for it in parts]) if parts[0] in deltas else zero
            error = max(error, numpy.abs(after[name] - before[name] - delta).max())
        self.note(case, None if error < 1e-5 else f"the change is off by {error:.1e}")

    def refused(self, case, words, *arguments):
        """The command fails with one line that holds one of the alternatives of each word, and writes nothing."""
        out = self.folder / "out.gguf"
        out.unlink(missing_ok=True)
        done = self.run(*arguments)
        if done is None:
            return self.note(case, "it hangs")
        # Lines about the progress may come before the error.
        said = done.stderr.strip().splitlines()
        first = next((i for i, line in enumerate(said) if line.startswith("error: ")), 0)
        lines = said[first:]
        last = lines[-1] if lines else ""
        flaw = None
        if done.returncode not in (1, 2):
            flaw = f"exit {done.returncode}"
        elif len(lines) != 1:
            flaw = f"{len(lines)} lines"
        elif not all(any(it in last for it in word.split("|")) for word in words):
            flaw = "another cause is named"
        elif out.exists():
            flaw = "a file is left behind"
        self.note(case, flaw, last)


def deltas_of_peft(path, factor, base):
    """`factor · B·A` of each module, under the names and with the rows of a GGUF file."""
    path = pathlib.Path(path)
    file = next(path.glob("*.safetensors")) if path.is_dir() else path
    is_llama = gguf.GGUFReader(base).fields["general.architecture"].contents() == "llama"
    deltas = {}
    tensors = load_file(file)
    for name, a in tensors.items():
        mlx = name.endswith(".lora_a")
        if not mlx and ".lora_A" not in name:
            continue
        b = tensors[name.replace(".lora_a", ".lora_b").replace(".lora_A", ".lora_B")]
        a, b = (a.T, b.T) if mlx else (a, b)
        delta = factor(name, a.shape[0]) * (b.astype(numpy.float64) @ a.astype(numpy.float64))
        if "lm_head" in name:
            deltas["output.weight"] = delta
            continue
        layer = name.split("layers.")[1].split(".")[0]
        tensor = next(ours for theirs, ours in MODULES.items() if f".{theirs}." in name)
        if is_llama and tensor in HEADS:
            heads = delta.reshape(HEADS[tensor], 2, -1, delta.shape[1])
            delta = heads.swapaxes(1, 2).reshape(delta.shape)
        deltas[f"blk.{layer}.{tensor}.weight"] = delta
    return deltas


def deltas_of_gguf(path):
    reader = gguf.GGUFReader(path)
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = values.reshape([int(n) for n in tensor.shape[::-1]]).astype(numpy.float64)
    names = [name.removesuffix(".lora_a") for name in tensors if name.endswith(".lora_a")]
    pairs = {name: (tensors[name + ".lora_a"], tensors[name + ".lora_b"]) for name in names}
    return {name: (alpha / len(a) if alpha else 1) * (b @ a) for name, (a, b) in pairs.items()}


def weights(path):
    reader = gguf.GGUFReader(path)
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float64)
        for tensor in reader.tensors
    }


def usual(_name, rank):
    return 8 / rank


def read_right(cases):
    """Adapters that are to be read."""
    llama, gemma, untied = (cases.folder / name for name in ("llama.gguf", "gemma3.gguf", "untied.gguf"))
    cases.make("mkbase.py", llama, "llama")
    cases.make("mkbase.py", gemma, "gemma3")
    cases.make("mkbase.py", untied, "llama", "tied=0")
    cases.converted("a plain adapter", cases.peft("plain"), llama, usual)
    mlx = cases.peft("mlx", "mlx=1", "file=adapters.safetensors", f"cfgall={json.dumps(MLX)}", "cfg={}")
    cases.converted("MLX", mlx, llama, lambda *_: 20)
    for prefix in ("language_model.model.layers.", "language_model.layers.", "model.language_model.layers."):
        adapter = cases.peft(f"in-{prefix}", f"prefix=base_model.model.{prefix}")
        cases.converted(f"the prefix {prefix}", adapter, gemma, usual)
    adapter = cases.peft("inner", "inner=.linear", "targets=q_proj,k_proj,o_proj")
    cases.converted("the inner name q_proj.linear", adapter, gemma, usual)
    copy = "extra=base_model.model.lm_head.base_layer.weight:32000x64"
    head = cases.peft("head-copy", "targets=lm_head,q_proj", copy)
    cases.converted("lm_head with its base_layer", head, untied, usual)
    patterns = {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 16}}

    def factor(root):
        return lambda name, rank: (16 if "q_proj" in name else 8) / rank**root

    adapter = cases.peft("patterns", 'ranks={"q_proj":8}', f"cfg={json.dumps(patterns)}")
    cases.converted("rank_pattern and alpha_pattern", adapter, llama, factor(1))
    adapter = cases.peft("rs", 'ranks={"q_proj":8}', f"cfg={json.dumps({**patterns, 'use_rslora': True})}")
    cases.converted("rank_pattern and alpha_pattern with use_rslora", adapter, llama, factor(0.5))
    weights = cases.folder / "plain" / "adapter_model.safetensors"
    cases.converted("the file of weights itself", weights, llama, usual)


def other_folders(cases):
    """Paths that lead to no adapter: the message says what they are."""
    def refused(case, words, path):
        cases.refused(case, words, "convert", "adapter", path, "out.gguf", "--base", "llama.gguf")

    def copied(name, *parts):
        return shutil.copytree(cases.folder / "plain", cases.folder.joinpath(name, *parts))

    pickled = copied("pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    (pickled / "adapter_model.bin").write_bytes(b"PK\x03\x04" + bytes(60))
    refused("adapter_model.bin", ["adapter_model.bin", "safetensors"], pickled)
    refused("the file adapter_model.bin", ["adapter_model.bin", "safetensors"], pickled / "adapter_model.bin")
    copied("two", "first"), copied("two", "second")
    refused("a folder of two adapters", ["first", "second"], "two")
    copied("run", "checkpoint-100")
    refused("a run above checkpoint-100", ["checkpoint-100"], "run")
    parts = copied("parts")
    for part in (1, 2):
        shutil.copy(parts / "adapter_model.safetensors", parts / f"adapter_model-0000{part}-of-00002.safetensors")
    (parts / "adapter_model.safetensors").unlink()
    refused("a sharded adapter", ["in several parts"], parts)
    pointer = copied("pointer")
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0123456789abcdef' * 4}\nsize 9437184\n"
    (pointer / "adapter_model.safetensors").write_text(text)
    refused("a pointer of Git LFS as weights", ["Git LFS"], pointer)
    (cases.folder / "pointer.gguf").write_text(text)
    refused("a pointer of Git LFS as a GGUF adapter", ["Git LFS"], "pointer.gguf")
    cases.refused("a pointer of Git LFS as the base", ["Git LFS"], "generate", "-m", "pointer.gguf", "-p", "hi")
    refused("lm_head on a tied base", ["ties its head"], cases.peft("head", "targets=lm_head,q_proj"))
    later = cases.peft("later", 'cfg={"a_later_setting": 2}')
    refused("a setting of a later version", ["a_later_setting"], later)


def other_bases(cases):
    """Bases that hold something else than one plain model."""
    cases.make("mkbase.py", "fused.gguf", "llama", "fused=1")
    cases.run("convert", "adapter", "plain", "plain.gguf", "--base", "llama.gguf")
    (cases.folder / "texts.jsonl").write_text('{"prompt": "Who is there?", "response": "Me, as ever."}\n' * 12)
    cases.run("user", "import", "ann", "texts.jsonl")
    for adapter in ("plain", "plain.gguf"):
        cases.taken(f"check {adapter} with a fused base", "convert", "check", adapter, "fused.gguf")
        cases.merged(f"merge {adapter} into a fused base", "fused.gguf", adapter, "fused.gguf")
    run = ["generate", "-m", "fused.gguf", "-n", "1", "-p", "hi", "--lora"]
    cases.refused("--lora on a fused base", ["this base is fused"], *run, "plain.gguf")
    cases.run("convert", "adapter", "plain.gguf", "for-fused.gguf", "--base", "fused.gguf")
    cases.taken("--lora on a fused base, converted for it", *run, "for-fused.gguf")
    cases.taken("train on a fused base", "train", "ann", "-m", "fused.gguf", "--stage", "sft")
    for part in (1, 2):
        split(cases.folder, part)
    part = "part-00001-of-00002.gguf"
    requantize = ["convert", "requantize", part, "--dtype", "q8_0", "--output", "out.gguf"]
    cases.taken("requantize a model in parts", *requantize, tensors_of="llama.gguf")
    cases.taken("check with a model in parts", "convert", "check", "plain", part)
    cases.merged("merge into a model in parts", part, "plain", "llama.gguf")
    run = ["generate", "-n", "1", "-p", "hi", "-m"]
    cases.taken("-m the first part", *run, part)
    cases.refused("-m the second part", ["2 parts", part], *run, "part-00002-of-00002.gguf")
    cases.taken("train on a model in parts", "train", "ann", "-m", part, "--stage", "sft")


def settings_and_texts(cases):
    """What training takes from a model's settings, and a text that no context can hold."""
    for part in ("history", "held_out"):
        items = ({"prompt": f"note {n}", "response": f"thanks for {part} {n}"} for n in range(1, 6))
        (cases.folder / f"{part}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    cases.run("user", "import", "bob", "history.jsonl")
    cases.run("user", "import", "bob", "held_out.jsonl", "--held-out")

    def logprob(name, *arguments):
        """The log-probability of the held-out texts under a base that is made with these arguments."""
        cases.make("mkbase.py", name, "llama", *arguments)
        said = cases.run("train", "bob", "-m", name, "--stage", "sft", "--epochs", "1").stdout
        return said.split("nats per token: ")[1].split(" ")[0] if "nats per token: " in said else said.strip()

    plain, scaled = logprob("plain.gguf"), logprob("scaled.gguf", "meta:llama.rope.scale_linear=4.0")
    cases.note("rope.scale_linear", None if plain != scaled else f"it changes nothing: {plain}", f"{plain}, {scaled}")
    (cases.folder / "name").write_text("chatml")
    (cases.folder / "source").write_text(
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    name, source = (logprob(f"{it}.gguf", f"template={cases.folder / it}") for it in ("name", "source"))
    flaw = None if name == source != plain else "not as by its text"
    cases.note("a template that is a name", flaw, f"{name}, {source}")

    mail = "From tom@berg.example Thu Jan  1 00:00:00 2026\nFrom: Tom Berg <tom@berg.example>\nTo: nora@lind.example\n" \
        "Subject: {}\nContent-Type: text/plain; charset=utf-8\n\n{}\n\n"
    long = "\n".join("今日は市場で古い椅子と林檎を買いました。" * 3 for _ in range(150))
    texts = [("shed", "The ladder is in the shed."), ("long", long), ("tea", "Tea at four?")]
    (cases.folder / "sent.mbox").write_text("".join(mail.format(*text) for text in texts))
    read = cases.run("user", "import", "tom", "sent.mbox", "--author", "tom@berg.example")
    done = cases.run("train", "tom", "-m", "plain.gguf", "--stage", "sft", "--epochs", "1")
    left = [line for line in (read.stderr + done.stderr).splitlines() if "longer than" in line or "left out" in line]
    flaw = None if done.returncode == 0 and len(left) == 1 else f"exit {done.returncode}"
    cases.note("a mail of 9,000 Japanese characters", flaw, " ".join(left) or done.stderr.strip())


def split(folder, part):
    """Writes one of two parts of llama.gguf, as llama-gguf-split does."""
    reader = gguf.GGUFReader(folder / "llama.gguf")
    writer = gguf.GGUFWriter(folder / f"part-0000{part}-of-00002.gguf", "llama")
    if part == 1:
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name == "general.architecture":
                continue
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)
    writer.add_key_value("split.no", part - 1, gguf.GGUFValueType.UINT16)
    writer.add_key_value("split.count", 2, gguf.GGUFValueType.UINT16)
    writer.add_key_value("split.tensors.count", len(reader.tensors), gguf.GGUFValueType.INT32)
    half = len(reader.tensors) // 2
    for tensor in reader.tensors[:half] if part == 1 else reader.tensors[half:]:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("--vocabs", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("target/release/cope-llama"))
    cases = Cases(parser.parse_args())
    try:
        read_right(cases)
        other_folders(cases)
        other_bases(cases)
        settings_and_texts(cases)
    finally:
        shutil.rmtree(cases.folder)
    right = sum(cases.verdicts)
    print(f"{right} of {len(cases.verdicts)} right")
    sys.exit(right != len(cases.verdicts))


if __name__ == "__main__":
    main()
