//! A LoRA adapter, loaded for its model.

use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use cope_convert::gguf::Gguf;
use cope_convert::{Adapter, RopeFactors};

use super::{Model, c_path, exclusive, log, preflight, sys};
use crate::{Error, Result};

/// An adapter in memory, which any number of contexts of its model can use. Adapters can be loaded and freed while
/// contexts live.
#[derive(Debug)]
pub struct LoraAdapter {
    raw: NonNull<sys::llama_adapter_lora>,
    model: Arc<Model>,
    rope_factors: Option<RopeFactors>,
}

// SAFETY: an adapter is bound to no thread; freeing it changes its model under `exclusive()`.
unsafe impl Send for LoraAdapter {}
// SAFETY: after loading, llama.cpp only reads an adapter.
unsafe impl Sync for LoraAdapter {}

impl LoraAdapter {
    /// Loads the adapter at `path` for `model`, after checking it against `base`, the header of the model's own
    /// file, and that file's SHA-256.
    ///
    /// # Errors
    ///
    /// The file is missing, is no sound adapter, or was made for another base.
    pub fn load(
        model: &Arc<Model>,
        path: &Path,
        base: &Gguf,
        base_sha256: &str,
    ) -> Result<Arc<Self>> {
        if !model.has_weights() {
            return Err(Error::bug(
                "an adapter needs a model with weights, not a vocabulary",
            ));
        }
        let adapter = Adapter::read_gguf(path)?;
        adapter.check_fits(base, base_sha256)?;
        preflight::check_adapter(path, &adapter, base)?;
        let c_path = c_path(path)?;
        let _guard = exclusive();
        log::forget();
        // SAFETY: the model is live, the path NUL-terminated, and no context is being sized (`exclusive`).
        let raw = unsafe { sys::llama_adapter_lora_init(model.raw(), c_path.as_ptr()) };
        let raw = NonNull::new(raw)
            .ok_or_else(|| log::error(format!("load the adapter {}", path.display())))?;
        Ok(Arc::new(Self {
            raw,
            model: Arc::clone(model),
            rope_factors: adapter.rope_factors,
        }))
    }

    /// The model that the adapter was loaded for.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The factors of the rotary frequencies that it was trained with, if it records them.
    pub(super) fn rope_factors(&self) -> Option<RopeFactors> {
        self.rope_factors
    }

    pub(super) fn raw(&self) -> *mut sys::llama_adapter_lora {
        self.raw.as_ptr()
    }
}

impl Drop for LoraAdapter {
    fn drop(&mut self) {
        let _guard = exclusive();
        // SAFETY: `raw` is live and its model too; contexts hold an `Arc` of the adapter, so none uses it.
        unsafe { sys::llama_adapter_lora_free(self.raw.as_ptr()) };
    }
}
