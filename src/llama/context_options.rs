//! Options of a context.

use clap::ValueEnum;
use cope_convert::gguf::Gguf;

use super::model::kv_values;
use super::{Model, devices, padded_ctx, sys};

/// ggml's limit on threads.
const MAX_THREADS: usize = 512;

/// The type of the numbers in a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvType {
    /// 32 bits: for comparisons.
    F32,
    /// 16 bits, as llama.cpp's own default.
    F16,
    /// 8.5 bits: half the memory of [`F16`](Self::F16). Needs flash attention.
    #[value(name = "q8_0")]
    Q8_0,
}

/// Whether attention runs as one fused kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FlashAttention {
    /// On a GPU, and where the type of the cache needs it. On a CPU the fused kernel is slower: after a thousand tokens in
    /// F16, one more token took 24 ms instead of 14 (SmolLM2-135M, two cores with AVX-512).
    Auto,
    /// Always.
    On,
    /// Never: for comparisons.
    Off,
}

/// The most earlier states of a recurrent layer that are kept. Each takes three nodes of a layer's graph, and llama.cpp ends the
/// process where the graph outgrows the nodes that it has counted for the model's tensors: 64 for a block of `lfm2`.
const MAX_STATES: u32 = 7;

/// Options of a [`Context`](super::Context). The default is for a chat: small buffers, few rows of logits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextOptions {
    /// The most tokens in the cache. llama.cpp rounds it up to a multiple of 256; the model's trained length limits it.
    pub n_ctx: u32,
    /// The most tokens in one pass. Compute buffers grow with it, by some 70 KiB a token for a small model. Beyond the
    /// default, a CPU reads prompts no faster, but a GPU does.
    pub n_batch: u32,
    /// The most rows of logits that one pass keeps, each of `n_vocab` floats.
    pub n_outputs: u32,
    /// The number of threads.
    pub n_threads: usize,
    /// The type of the KV cache.
    pub kv_type: KvType,
    /// Whether attention is fused.
    pub flash_attention: FlashAttention,
    /// The bytes of host memory that a new context may take. `None` for what is free on this machine when the context is
    /// made, swap included.
    pub free_memory: Option<u64>,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self {
            n_ctx: 2048,
            n_batch: 128,
            n_outputs: 8,
            n_threads: std::thread::available_parallelism().map_or(1, usize::from),
            kv_type: KvType::F16,
            flash_attention: FlashAttention::Auto,
            free_memory: None,
        }
    }
}

impl ContextOptions {
    /// The number of threads, within ggml's limits.
    pub(super) fn threads(&self) -> i32 {
        self.n_threads.clamp(1, MAX_THREADS) as i32
    }

    /// An upper bound on the bytes of the KV cache of one sequence of `model`; sliding windows may take less.
    #[must_use]
    pub fn kv_bytes(&self, model: &Model) -> u64 {
        self.cache_bytes(self.padded_ctx(model), model.kv_values())
    }

    /// About the bytes that a chat with a user's model takes, as far as the model's header tells: its files, and the KV
    /// caches of the base and of the user's model.
    #[must_use]
    pub fn chat_bytes(&self, header: &Gguf, file_bytes: u64) -> u64 {
        let architecture = header.architecture().unwrap_or_default();
        let n_ctx_train = header.u32(&format!("{architecture}.context_length"));
        let n_ctx = padded_ctx(self.n_ctx, n_ctx_train.unwrap_or(self.n_ctx));
        let cache = self.cache_bytes(n_ctx, kv_values(header));
        file_bytes.saturating_add(cache.saturating_mul(2))
    }

    /// The bytes of a KV cache of `n_ctx` tokens with this many values each.
    fn cache_bytes(&self, n_ctx: u32, kv_values: u64) -> u64 {
        let n_bits = match self.kv_type {
            KvType::F32 => 64,
            KvType::F16 => 32,
            KvType::Q8_0 => 17,
        };
        let values = u64::from(n_ctx).saturating_mul(kv_values);
        values.saturating_mul(n_bits) / 16
    }

    /// The number of tokens that the cache of one sequence of `model` has room for.
    pub(super) fn padded_ctx(&self, model: &Model) -> u32 {
        padded_ctx(self.n_ctx, model.n_ctx_train())
    }

    /// llama.cpp's parameters for a context of `model` with `n_sequences` sequences.
    pub(super) fn params(&self, model: &Model, n_sequences: u32) -> sys::llama_context_params {
        // SAFETY: returns a plain value.
        let mut params = unsafe { sys::llama_context_default_params() };
        let n_ctx = self.n_ctx.clamp(1, model.n_ctx_train().max(1));
        params.n_ctx = n_ctx.saturating_mul(n_sequences);
        params.n_seq_max = n_sequences;
        params.n_batch = self.n_batch.max(1);
        params.n_ubatch = params.n_batch;
        params.n_outputs_max = self.n_outputs.clamp(1, params.n_batch);
        // Only passes of one sequence read ahead. llama.cpp sets this to 0 for caches that can be cut anywhere, and for others
        // it needs a pass that is longer than these rows and the one before them.
        let n_rows = params.n_ubatch.min(n_ctx) - 1;
        params.n_rs_seq = match n_sequences {
            1 => MAX_STATES.min(params.n_outputs_max.min(n_rows).saturating_sub(1)),
            _ => 0,
        };
        params.n_threads = self.threads();
        params.n_threads_batch = params.n_threads;
        params.type_k = match self.kv_type {
            KvType::F32 => sys::GGML_TYPE_F32,
            KvType::F16 => sys::GGML_TYPE_F16,
            KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        };
        params.type_v = params.type_k;
        let is_wanted = || self.kv_type == KvType::Q8_0 || devices().iter().any(|it| it.is_gpu);
        params.flash_attn_type = match self.flash_attention {
            FlashAttention::Auto if is_wanted() => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Auto | FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        params
    }
}
