"""Makes small models of each family, an adapter of each by PEFT, and llama.cpp's own conversion of that adapter.

    python benches/exchange/families.py CONVERTER OUT FAMILY…

CONVERTER is llama.cpp's convert_lora_to_gguf.py. Writes into OUT/FAMILY: `base.gguf`, whose tensors have the names of
llama.cpp's own table; `peft`, the adapter as PEFT saves it, for all linear layers, with two different ranks; and
`theirs.gguf`, CONVERTER's conversion of it. Prints a line of JSON per family with the seconds that CONVERTER took.
"""
import json, os, subprocess, sys, time
import torch
import transformers
from gguf import GGUFWriter, MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
from peft import LoraConfig, get_peft_model

SHAPE = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=16, vocab_size=128, max_position_embeddings=64, pad_token_id=0)
FAMILIES = {"llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig, "qwen2": transformers.Qwen2Config,
            "qwen3": transformers.Qwen3Config, "gemma2": transformers.Gemma2Config,
            "gemma3": transformers.Gemma3TextConfig, "phi3": transformers.Phi3Config, "granite": transformers.GraniteConfig,
            "smollm3": transformers.SmolLM3Config, "olmo2": transformers.Olmo2Config}


def write_base(model, config, architecture, path):
    writer = GGUFWriter(path, architecture)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    (number,) = (number for number, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(number, config.num_hidden_layers)
    for name, values in model.state_dict().items():
        name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name is not None:
            # The rows of q and k would need another order, but nobody reads the base's values.
            writer.add_tensor(name, values.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    converter, out, *families = sys.argv[1:]
    for family in families or FAMILIES:
        torch.manual_seed(1)
        folder = os.path.join(out, family)
        os.makedirs(folder, exist_ok=True)
        config = FAMILIES[family](**SHAPE)
        model = transformers.AutoModelForCausalLM.from_config(config)
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
        write_base(model, config, "llama" if family == "mistral" else family, os.path.join(folder, "base.gguf"))
        linear = sorted({name.rsplit(".", 1)[1] for name, module in model.named_modules()
                         if isinstance(module, torch.nn.Linear) and "layers" in name})
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=10, target_modules=linear, task_type="CAUSAL_LM",
                                                 rank_pattern={linear[0]: 6}))
        for name, values in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(values)
        peft = os.path.join(folder, "peft")
        model.save_pretrained(peft)
        theirs = os.path.join(folder, "theirs.gguf")
        started = time.time()
        done = subprocess.run([sys.executable, converter, peft, "--base", folder, "--outfile", theirs, "--outtype",
                               "f32"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{family}: {done.stderr}")
        print(json.dumps({"family": family, "seconds": time.time() - started}), flush=True)


if __name__ == "__main__":
    main()
