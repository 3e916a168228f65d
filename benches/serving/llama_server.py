"""llama-server in its prebuilt `xllamacpp` wheel, until the standard input ends.

    python benches/serving/llama_server.py BASE.gguf ADAPTER.gguf THREADS

Prints one line of JSON, {"url", "system"}: where it listens, and the instruction sets of its kernels.
"""
import json, sys
import xllamacpp

base, adapter, threads = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = base
params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
params.n_ctx, params.n_parallel, params.verbosity = 2048, 1, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
params.cache_ram_mib = 0  # copies of caches that are given up would take time between requests
server = xllamacpp.Server(params)
print(json.dumps({"url": server.listening_address, "system": xllamacpp.get_system_info()}), flush=True)
sys.stdin.read()
