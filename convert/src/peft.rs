//! Adapters as PEFT keeps them: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! PEFT and llama.cpp hold `A` and `B` in the same orientation. What differs is the names, the factor (PEFT's is
//! `lora_alpha / r`, or `lora_alpha / √r` with `use_rslora`; llama.cpp's is `alpha / r`), and in the `llama` family the
//! order of the rows of q and k, and so of their `B`.

mod config;
mod read;
mod write;

use std::path::Path;

use crate::adapter::{Adapter, LoraPair, StoredPair};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::safetensors::Dtype;

/// The file of an adapter's settings.
const CONFIG: &str = "adapter_config.json";

/// The file of an adapter's weights.
const WEIGHTS: &str = "adapter_model.safetensors";

/// What the names of all weights begin with.
const PREFIX: &str = "base_model.model.";

/// Where in the metadata of the weights the keys of GGUF stand for which PEFT has no place.
const GGUF_PREFIX: &str = "gguf.";

/// After it, and before a dot and a tensor's name: the type of that tensor in the GGUF file, where PEFT has none such.
const TYPE: &str = "type";

impl Adapter<StoredPair> {
    /// Reads PEFT's `folder`, but for the weights, which stay on disk; `base` is the base as a GGUF file.
    ///
    /// # Errors
    ///
    /// The folder lacks a file, or one is damaged; the adapter is no plain LoRA, or has a setting that no GGUF adapter can
    /// express, such as `DoRA`, a bias, `modules_to_save` or an `alpha_pattern`; it adapts what the base does not have.
    pub fn open_peft(folder: &Path, base: &Gguf) -> Result<Self> {
        read::open(folder, base)
    }
}

impl<P: LoraPair> Adapter<P> {
    /// Writes the adapter into `folder` for PEFT, which is made if it is not there: pair by pair, with weights of
    /// `dtype`, or of the type that each has. `base` is its base as a GGUF file; `base_name`, for PEFT, is where
    /// transformers finds it. The same adapter gives the same bytes. On Unix its owner alone may read the files.
    ///
    /// # Errors
    ///
    /// The adapter does not fit the base, or adapts a tensor for which PEFT has no module; its weights cannot be loaded;
    /// or the folder cannot be written.
    pub fn write_peft(
        &self,
        folder: &Path,
        base: &Gguf,
        base_name: &str,
        dtype: Option<Dtype>,
    ) -> Result<()> {
        write::write(self, folder, base, base_name, dtype)
    }
}
