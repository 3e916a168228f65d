//! A model: its weights, loaded once and shared by all its contexts.

use std::collections::HashMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use cope_convert::gguf::{Array, Gguf, TensorInfo, Value};

use super::factor_sets::FactorSets;
use super::system::free_memory;
use super::{Token, c_path, log, preflight, start, sys};
use crate::error::MemoryUser;
use crate::{Error, Result};

/// A model: its weights (memory-mapped where the system can) and its vocabulary.
#[derive(Debug)]
pub struct Model {
    raw: NonNull<sys::llama_model>,
    path: PathBuf,
    has_weights: bool,
    eot: Option<Token>,
    kv_values: u64,
    rotations_add_up: bool,
    factor_sets: Option<FactorSets>,
    /// The weights that can be the output head: a weight of its own, or the embedding.
    head_weights: Vec<TensorInfo>,
    /// The bytes that contexts of the model take, by a description of the context.
    context_sizes: Mutex<HashMap<String, u64>>,
}

/// The memory that a model takes while it is being loaded.
#[derive(Debug)]
struct LoadingMemory {
    /// Bytes that were free before.
    free: Option<u64>,
    /// Bytes of the buffers, without weights that are mapped from the file.
    needed: u64,
}

impl LoadingMemory {
    fn fits(&self) -> bool {
        self.free.is_none_or(|free| self.needed <= free)
    }
}

/// llama.cpp's callback between its allocation of buffers and the reading of each tensor. The load ends when it returns
/// `false`.
///
/// # Safety
///
/// `memory` must point to a [`LoadingMemory`] that nothing else uses.
unsafe extern "C" fn measure(_progress: f32, memory: *mut c_void) -> bool {
    // SAFETY: this function's contract.
    let memory = unsafe { &mut *memory.cast::<LoadingMemory>() };
    memory.needed = log::host_bytes();
    memory.fits()
}

// SAFETY: a loaded model is bound to no thread; llama.cpp itself shares it between contexts on many threads.
unsafe impl Send for Model {}
// SAFETY: after loading, llama.cpp only reads the model, except for its set of adapters, which is written and read
// under `exclusive()`.
unsafe impl Sync for Model {}

impl Model {
    /// Loads the model at `path`, with `gpu_layers` of its layers on a GPU if there is one (`None`: all layers).
    ///
    /// # Errors
    ///
    /// The file is missing, is no sound GGUF model, or llama.cpp cannot load it; the error names the file.
    /// [`Error::NoRoom`] if the weights that are not mapped from the file take more memory than is free.
    pub fn load(path: &Path, gpu_layers: Option<u32>) -> Result<Arc<Self>> {
        let mut params = default_params();
        params.n_gpu_layers = gpu_layers.map_or(-1, |n| n.min(i32::MAX as u32) as i32);
        Self::load_with(path, params, free_memory())
    }

    /// Loads only the vocabulary of the model at `path`, which is enough to tokenize but not to make a context.
    ///
    /// # Errors
    ///
    /// The errors of [`load`](Self::load).
    pub fn load_vocabulary(path: &Path) -> Result<Arc<Self>> {
        let mut params = default_params();
        params.vocab_only = true;
        Self::load_with(path, params, None)
    }

    /// Loads the vocabulary of the model at `path`, as [`load_vocabulary`](Self::load_vocabulary) does, and checks that
    /// llama.cpp can load the rest, without reading its weights. Training begins with it, so that it does not end in an
    /// adapter for a model that cannot run.
    ///
    /// # Errors
    ///
    /// The errors of [`load`](Self::load).
    pub fn load_without_weights(path: &Path) -> Result<Arc<Self>> {
        let mut params = default_params();
        params.n_gpu_layers = 0;
        params.no_alloc = true;
        params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
        Self::load_with(path, params, None)
    }

    /// Loads the model with `params`, unless it takes more than `free` bytes of memory.
    fn load_with(
        path: &Path,
        mut params: sys::llama_model_params,
        free: Option<u64>,
    ) -> Result<Arc<Self>> {
        let header = Gguf::open(path)?;
        preflight::check(path, &header)?;
        start();
        log::forget();
        let c_path = c_path(path)?;
        let mut memory = LoadingMemory { free, needed: 0 };
        params.progress_callback = Some(measure);
        params.progress_callback_user_data = (&raw mut memory).cast();
        // SAFETY: the path is NUL-terminated; `params` are defaults, whose pointers are null, with a callback whose data
        // outlives the call.
        let raw = unsafe { sys::llama_model_load_from_file(c_path.as_ptr(), params) };
        let raw = NonNull::new(raw).ok_or_else(|| match memory.free {
            Some(free) if !memory.fits() => Error::NoRoom {
                user: MemoryUser::Weights {
                    path: path.to_owned(),
                },
                needed: memory.needed,
                free,
            },
            _ => {
                let error = log::error(format!("load the model {}", path.display()));
                preflight::explain(path, &header, error)
            }
        })?;
        let model = Self {
            raw,
            path: path.to_owned(),
            has_weights: !params.vocab_only && !params.no_alloc,
            eot: header
                .get("tokenizer.ggml.eot_token_id")
                .and_then(Value::as_u32)
                .map(|token| token as Token),
            kv_values: kv_values(&header),
            rotations_add_up: rotations_add_up(&header),
            factor_sets: FactorSets::of(&header),
            head_weights: ["output.weight", "token_embd.weight"]
                .into_iter()
                .filter_map(|name| header.tensor(name).cloned())
                .collect(),
            context_sizes: Mutex::default(),
        };
        // Otherwise llama.cpp would end the process at the first text.
        let is_usable = model.has_vocabulary()
            && (model.bos().is_some() || !model.adds_bos())
            && (model.eos().is_some() || !model.adds_eos());
        if !is_usable {
            return Err(Error::input(format!(
                "{}: its vocabulary is not whole; get another file of this model",
                path.display()
            )));
        }
        Ok(Arc::new(model))
    }

    /// The file that the model was loaded from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The longest context that the model was trained on, in tokens.
    #[must_use]
    pub fn n_ctx_train(&self) -> u32 {
        // SAFETY: `raw` is a live model.
        unsafe { sys::llama_model_n_ctx_train(self.raw.as_ptr()) }.max(0) as u32
    }

    /// The token that ends a turn of a chat, if the file names one. If it does not, [`eos`](Self::eos) is a better guess than
    /// llama.cpp's, which takes the first token, in arbitrary order, that has one of the usual names. For SmolLM2 that is
    /// `<|endoftext|>`, while its template ends a turn with `<|im_end|>`, its EOS.
    #[must_use]
    pub fn eot(&self) -> Option<Token> {
        self.eot.filter(|&token| self.contains(token))
    }

    /// The number of values in a KV cache for each token: the keys and values of all layers.
    pub(super) fn kv_values(&self) -> u64 {
        self.kv_values
    }

    /// The bytes that a context takes, which `measure` finds the first time that one of this description is asked for.
    pub(super) fn context_size(
        &self,
        description: String,
        measure: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        let sizes = self.context_sizes.lock();
        let mut sizes = sizes.unwrap_or_else(PoisonError::into_inner);
        if let Some(size) = sizes.get(&description) {
            return Some(*size);
        }
        let size = measure()?;
        sizes.insert(description, size);
        Some(size)
    }

    /// Whether a cache of the model can be cut at any token: that of a recurrent or hybrid model cannot.
    pub(super) fn can_cut_caches(&self) -> bool {
        let model = self.raw.as_ptr();
        // SAFETY: the model is live.
        unsafe { !sys::llama_model_is_recurrent(model) && !sys::llama_model_is_hybrid(model) }
    }

    /// Whether llama.cpp, when it moves keys in a cache, rotates them as it has rotated them at first.
    pub(super) fn rotations_add_up(&self) -> bool {
        self.rotations_add_up
    }

    /// The sizes of contexts by which its factors of the rotary frequencies are chosen, if it has two sets.
    pub(super) fn factor_sets(&self) -> Option<FactorSets> {
        self.factor_sets
    }

    /// Whether the weights were loaded, and not only the vocabulary.
    pub(super) fn has_weights(&self) -> bool {
        self.has_weights
    }

    /// The weight `name` of the file, if it has a row for each token.
    pub(super) fn head_weight(&self, name: &str) -> Option<&TensorInfo> {
        self.head_weights
            .iter()
            .find(|weight| weight.name == name && weight.shape[1..] == [self.n_vocab() as u64])
    }

    pub(super) fn raw(&self) -> *mut sys::llama_model {
        self.raw.as_ptr()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: `raw` is live; contexts and adapters hold an `Arc` of the model, so none is left.
        unsafe { sys::llama_model_free(self.raw.as_ptr()) };
    }
}

/// The number of values in a KV cache for each token, from the header: heads times the lengths of keys and values, times
/// layers. Where layers differ, the most of any layer counts.
pub(super) fn kv_values(header: &Gguf) -> u64 {
    let architecture = header.architecture().unwrap_or_default();
    let number = |name: &str| {
        let largest = match header.get(&format!("{architecture}.{name}"))? {
            Value::Array(Array::U32(counts)) => counts.iter().copied().max(),
            Value::Array(Array::I32(counts)) => {
                let largest = counts.iter().copied().max();
                largest.and_then(|it| u32::try_from(it).ok())
            }
            value => value.as_u32(),
        };
        largest.map(u64::from)
    };
    let n_head = number("attention.head_count").unwrap_or(1).max(1);
    let n_head_kv = number("attention.head_count_kv").unwrap_or(n_head);
    let head_dim = number("embedding_length").unwrap_or_default() / n_head;
    let dims = ["key", "value"].map(|it| {
        let full = number(&format!("attention.{it}_length")).unwrap_or(head_dim);
        full.max(number(&format!("attention.{it}_length_swa")).unwrap_or(0))
    });
    let shared = number("attention.shared_kv_layers").unwrap_or(0);
    let n_layer = number("block_count").unwrap_or_default();
    n_layer.saturating_sub(shared) * n_head_kv * (dims[0] + dims[1])
}

/// Whether a second rotation of keys adds up with their first. llama.cpp rotates the keys of `SmolLM3`'s blocks without
/// a rotation too, and multiplies keys by the magnitude of `YaRN`, of long contexts or of the file once more.
fn rotations_add_up(header: &Gguf) -> bool {
    let architecture = header.architecture().unwrap_or_default();
    let setting = |name: &str| header.get(&format!("{architecture}.rope.scaling.{name}"));
    let scaling = setting("type").and_then(Value::as_str);
    let magnitude = setting("attn_factor").and_then(Value::as_f32);
    architecture != "smollm3"
        && !matches!(scaling, Some("yarn" | "longrope"))
        && magnitude.is_none_or(|magnitude| (magnitude - 1.0).abs() < f32::EPSILON)
}

/// llama.cpp's defaults, without what is broken.
fn default_params() -> sys::llama_model_params {
    // SAFETY: returns a plain value.
    let mut params = unsafe { sys::llama_model_default_params() };
    // AMX works only on weights that are repacked into AMX's own buffer type.
    params.use_extra_bufts = !(has_amx() && cfg!(amx_is_broken));
    params
}

/// Whether ggml was built for AMX and this CPU has it.
fn has_amx() -> bool {
    // SAFETY: reads a constant of the build.
    unsafe { sys::ggml_cpu_has_amx_int8() != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_ends_where_its_buffers_do_not_fit() {
        let goes_on = |free| {
            let mut memory = LoadingMemory { free, needed: 0 };
            // SAFETY: nothing else uses `memory`.
            let goes_on = unsafe { measure(0.0, (&raw mut memory).cast()) };
            assert_eq!(memory.needed, 3 << 19);
            goes_on
        };
        log::forget();
        log::tell(c"load_tensors:   CPU_REPACK model buffer size =     1.50 MiB\n");
        log::tell(c"load_tensors:   CPU_Mapped model buffer size =    98.75 MiB\n");
        assert!(goes_on(None));
        assert!(goes_on(Some(3 << 19)));
        assert!(!goes_on(Some((3 << 19) - 1)));
    }
}
