"""A Python program that uses llama.cpp through ctypes and adds CoPe to its sampler chain.

    python3 cope.py FOLDER MODEL ADAPTER PROMPT N_TOKENS

FOLDER holds libllama and libcope_sampler. Prints the numbers of the tokens that follow the prompt, separated by spaces.
The structures are those of the llama.h that libllama was built from.
"""

import ctypes as c
import sys
from pathlib import Path


class ModelParams(c.Structure):
    _fields_ = [
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int),
        ("load_mode", c.c_int),
        ("lazy_mode", c.c_int),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        *[(name, c.c_bool) for name in "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp".split()],
    ]


class ContextParams(c.Structure):
    _fields_ = [
        *[(name, c.c_uint32) for name in "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq".split()],
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        *[(name, c.c_int) for name in "ctx_type rope_scaling_type pooling_type attention_type flash_attn_type".split()],
        *[(name, c.c_float) for name in "rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor".split()],
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int),
        ("type_v", c.c_int),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        *[(name, c.c_bool) for name in "embeddings offload_kqv no_perf op_offload swa_full kv_unified".split()],
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
    ]


class Batch(c.Structure):
    _fields_ = [
        ("n_tokens", c.c_int32),
        *[(name, c.c_void_p) for name in "token embd pos n_seq_id seq_id logits".split()],
    ]


FLASH_ATTN_DISABLED = 0
TYPE_F32 = 0

# The types of results and arguments, since ctypes takes them for ints, which have fewer bits than pointers.
SIGNATURES = {
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_sampler_chain_default_params": (c.c_bool, []),
    "llama_model_load_from_file": (c.c_void_p, [c.c_char_p, ModelParams]),
    "llama_adapter_lora_init": (c.c_void_p, [c.c_void_p, c.c_char_p]),
    "llama_init_from_model": (c.c_void_p, [c.c_void_p, ContextParams]),
    "llama_set_adapters_lora": (c.c_int32, [c.c_void_p, c.POINTER(c.c_void_p), c.c_size_t, c.POINTER(c.c_float)]),
    "llama_model_get_vocab": (c.c_void_p, [c.c_void_p]),
    "llama_vocab_is_eog": (c.c_bool, [c.c_void_p, c.c_int32]),
    "llama_tokenize": (c.c_int32, [c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32), c.c_int32, c.c_bool, c.c_bool]),
    "llama_batch_get_one": (Batch, [c.POINTER(c.c_int32), c.c_int32]),
    "llama_decode": (c.c_int32, [c.c_void_p, Batch]),
    "llama_sampler_chain_init": (c.c_void_p, [c.c_bool]),
    "llama_sampler_chain_add": (None, [c.c_void_p, c.c_void_p]),
    "llama_sampler_init_greedy": (c.c_void_p, []),
    "llama_sampler_accept": (None, [c.c_void_p, c.c_int32]),
    "llama_sampler_sample": (c.c_int32, [c.c_void_p, c.c_void_p, c.c_int32]),
    "llama_sampler_free": (None, [c.c_void_p]),
    "llama_free": (None, [c.c_void_p]),
    "llama_model_free": (None, [c.c_void_p]),
    "llama_log_set": (None, [c.c_void_p, c.c_void_p]),
    "cope_sampler_init": (c.c_void_p, [c.c_void_p, c.c_int32, c.c_float, c.c_float]),
    "cope_sampler_status": (c.c_int, [c.c_void_p]),
}


def load(folder):
    """Loads libllama, with global symbols, and libcope_sampler, which uses them, as one namespace of functions."""
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    llama = c.CDLL(str(folder / f"libllama{suffix}"), mode=c.RTLD_GLOBAL)
    cope = c.CDLL(str(folder / f"libcope_sampler{suffix}"))
    functions = {}
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(cope if name.startswith("cope") else llama, name)
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return type("Functions", (), {name: staticmethod(function) for name, function in functions.items()})


def new_context(lib, model):
    params = lib.llama_context_default_params()
    params.n_ctx = 512
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = FLASH_ATTN_DISABLED
    params.type_k = params.type_v = TYPE_F32
    return lib.llama_init_from_model(model, params)


def main(folder, model, adapter, prompt, n_tokens):
    lib = load(Path(folder))
    quiet = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda level, text, data: None)
    lib.llama_log_set(c.cast(quiet, c.c_void_p), None)
    model = lib.llama_model_load_from_file(model.encode(), lib.llama_model_default_params())
    adapter = c.c_void_p(lib.llama_adapter_lora_init(model, adapter.encode()))

    # The user's model is the model with the adapter; the base is the model alone.
    user, base = new_context(lib, model), new_context(lib, model)
    assert lib.llama_set_adapters_lora(user, c.byref(adapter), 1, c.byref(c.c_float(1.0))) == 0

    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    cope = lib.cope_sampler_init(base, 0, 0.5, 0.1)
    lib.llama_sampler_chain_add(chain, cope)
    lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_greedy())

    vocab = lib.llama_model_get_vocab(model)
    tokens = (c.c_int32 * 512)()
    text = prompt.encode()
    n_prompt = lib.llama_tokenize(vocab, text, len(text), tokens, 256, True, True)
    # Pass the prompt to the sampler, which feeds the base, and decode it in the user's model, which then continues token
    # by token.
    for token in tokens[:n_prompt]:
        lib.llama_sampler_accept(chain, token)
    batch = lib.llama_batch_get_one(tokens, n_prompt)
    chosen = []
    while len(chosen) < n_tokens and lib.llama_decode(user, batch) == 0:
        tokens[0] = lib.llama_sampler_sample(chain, user, -1)
        if lib.llama_vocab_is_eog(vocab, tokens[0]):
            break
        chosen.append(tokens[0])
        batch = lib.llama_batch_get_one(tokens, 1)
    print(*chosen)
    assert lib.cope_sampler_status(cope) == 0

    lib.llama_sampler_free(chain)
    lib.llama_free(user)
    lib.llama_free(base)
    lib.llama_model_free(model)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:5], int(sys.argv[5]))
