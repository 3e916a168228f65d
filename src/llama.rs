//! llama.cpp, behind functions that are safe to call: the only module that names its bindings.
//!
//! ```text
//! Model ──┬── LoraAdapter ──┐          one copy of the weights, any number of adapters
//!         └─────────────────┴── Context     a KV cache of one (base, adapter, scale)
//!                                 └─ Twin   base and user contexts over one model
//! candidates ── Grammar, SamplerChain ── candidates
//! ```
//!
//! Each value owns what it needs (an adapter its model, a context both), so that values can be dropped in any order. Every
//! file passes the checks of [`cope_convert`] and of this module before llama.cpp opens it, since llama.cpp ends the process
//! on some bad files. Its log is captured and never printed: the first error becomes the reason of [`Error::Llama`].

#![allow(unsafe_code)]

mod adapter;
mod chain;
mod context;
mod context_options;
mod context_size;
mod dequantize;
mod factor_sets;
mod free_memory;
mod grammar;
mod json_schema;
mod log;
mod model;
mod output_head;
mod pace;
mod preflight;
mod raw_sampler;
mod sequences;
mod system;
#[cfg(test)]
pub(crate) mod test_kit;
mod threads;
mod twin;
mod vocabulary;

use std::ffi::CString;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use llama_cpp_sys_2 as sys;

pub use adapter::LoraAdapter;
pub use chain::{Link, SamplerChain};
pub use context::{Context, Rows};
pub use context_options::{ContextOptions, FlashAttention, KvType};
pub use dequantize::{can_dequantize, dequantize};
pub use factor_sets::rope_factors;
pub use grammar::Grammar;
pub use model::Model;
#[cfg(feature = "train")]
pub(crate) use preflight::{recurrent_layers, sliding_layers};
pub use sequences::Sequences;
pub use system::{CpuFeature, Device, computing_device, cpu_features, devices, free_memory};
pub use threads::check_threads;
pub use twin::Twin;
pub use vocabulary::{Boundary, Special};

use crate::{Error, Result};

/// The number of a token in its model's vocabulary.
pub type Token = i32;

/// Starts llama.cpp once and captures its log. Must be called before any other function of llama.cpp.
fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        log::capture();
        // SAFETY: called once, before any other function of llama.cpp.
        unsafe { sys::llama_backend_init() };
    });
}

/// The lock that is held while a context is created or first used, and while an adapter is loaded or freed: creating
/// contexts in parallel is unsound in llama.cpp, and a context that sizes its buffers reads its model's set of adapters.
fn exclusive() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of tokens that llama.cpp makes room for where `n_ctx` are asked for, in a model of this trained length.
fn padded_ctx(n_ctx: u32, n_ctx_train: u32) -> u32 {
    let n_ctx = n_ctx.clamp(1, n_ctx_train.max(1));
    n_ctx.checked_next_multiple_of(256).unwrap_or(n_ctx)
}

/// `path` as a C string for llama.cpp.
fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::input(format!("{} holds a NUL byte", path.display())))
}
