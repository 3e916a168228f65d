//! Adapters as PEFT keeps them: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! PEFT and llama.cpp hold `A` and `B` in the same orientation. They differ in the names of tensors, in the factor
//! (PEFT's is `lora_alpha / r`, or `lora_alpha / √r` with `use_rslora`, with `r` and `lora_alpha` of each module;
//! llama.cpp's is `alpha / r` with one `alpha` for all), and in some families in the order of the rows of q and k
//! or of value heads, and therefore of their `B` or `A`. Where one `alpha` cannot express the factors, `B` is multiplied
//! by what is left.
//!
//! Adapters of MLX are read too. There the folder has `adapters.safetensors`, the matrices are transposed, and the
//! factor is given itself (`scale`).

mod adapter_config;
mod location;
mod module_pattern;
mod read;
mod write;

use std::path::Path;

pub(crate) use location::{is_peft, locate};

use crate::adapter::{Adapter, Half, LoraPair, StoredPair};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::safetensors::Dtype;
use crate::value_heads::Along;

/// The file of an adapter's settings.
const CONFIG: &str = "adapter_config.json";

/// The file of an adapter's weights.
const WEIGHTS: &str = "adapter_model.safetensors";

/// The file of an adapter's weights when MLX has written it.
const MLX_WEIGHTS: &str = "adapters.safetensors";

/// The beginning of every weight's name.
const PREFIX: &str = "base_model.model.";

/// The prefix of metadata keys that keep entries of the GGUF file for which PEFT has no place.
const GGUF_PREFIX: &str = "gguf.";

/// The key, after [`GGUF_PREFIX`] and before a dot and a tensor's name, of the type that the tensor has in the GGUF
/// file, where safetensors files have no such type.
const TYPE: &str = "type";

/// The places of a weight that a half has too: `A` has its columns, `B` its rows.
fn along(half: Half) -> Along {
    match half {
        Half::A => Along::Columns,
        Half::B => Along::Rows,
    }
}

impl Adapter<StoredPair> {
    /// Opens an adapter of PEFT or MLX; its weights stay on disk. `path` is the adapter's folder, or its file of weights
    /// with its settings beside it. `base` is the base as a GGUF file.
    ///
    /// # Errors
    ///
    /// A file is missing or damaged; the adapter is not a plain LoRA, or has a setting that no GGUF adapter can
    /// express, such as `DoRA`, a bias or `modules_to_save`, or that is not known to be without effect; or it adapts a
    /// weight that the base does not have.
    pub fn open_peft(path: &Path, base: &Gguf) -> Result<Self> {
        read::open(path, base)
    }
}

/// The module that [`Adapter::open_peft`] leaves out of an adapter, since llama.cpp would load its matrices and not apply
/// them: `per_layer_model_projection` of Gemma 4. `None` if the adapter is read as a whole.
///
/// # Errors
///
/// A file is missing or damaged, or the family of the base is not known.
pub fn left_out(path: &Path, base: &Gguf) -> Result<Option<String>> {
    read::left_out(path, base)
}

impl<P: LoraPair> Adapter<P> {
    /// Writes the adapter into `folder` for PEFT, pair by pair. The folder is created if it is missing. Weights become
    /// `dtype`, or keep their own type with `None`. `base` is the adapter's base as a GGUF file; `base_name` is the
    /// name under which transformers finds it. The same adapter gives the same bytes. On Unix only its owner may read
    /// the files.
    ///
    /// # Errors
    ///
    /// The adapter does not fit the base, or adapts a tensor for which PEFT has no module; its weights cannot be
    /// loaded; or the folder cannot be written.
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
