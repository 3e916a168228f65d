//! LoRA adapters and GGUF files, without llama.cpp and without a tensor library.
//!
//! llama.cpp answers a bad file with a bare null, and some ill-formed adapters reach an assertion that ends the process.
//! So every GGUF file that a person gives is read here first, by a reader that believes nothing the file says.
//!
//! - [`gguf::Gguf`]: the header of a GGUF file, read with bounded memory, and its tensors' bytes, read on demand.
//! - [`gguf::write`]: a GGUF file from metadata and tensors; the same input gives the same bytes.
//! - [`safetensors::SafeTensors`] and [`safetensors::write`]: the same for PEFT's files.
//! - [`Adapter`]: a LoRA adapter, from and to GGUF files as llama.cpp loads them and PEFT's folders; whether it fits a
//!   base. Its weights are in memory, or stay on disk until a pair is asked for ([`LoraPair`]).
//! - [`merge`]: a base with adapters in its weights, of its own quantised types ([`quant`]); [`requantize`]: in another type.
//! - [`sha256`]: the identity of a base.
//!
//! A file is written beside its place and renamed into it, so nothing half-written ever has its final name.
//!
//! ```
//! use cope_convert::gguf::{self, Gguf, TensorData, Value};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("tiny.gguf");
//! let metadata = [("general.architecture".to_owned(), Value::from("llama"))];
//! let weights = [0.5; 6];
//! gguf::write(&path, &metadata, &[TensorData::f32("output.weight", &[3, 2], &weights)])?;
//!
//! let model = Gguf::open(&path)?;
//! assert_eq!(model.architecture()?, "llama");
//! assert_eq!(model.tensors[0].n_bytes, 24);
//! # Ok::<(), cope_convert::Error>(())
//! ```

#![forbid(unsafe_code)]

mod adapter;
pub mod cli;
mod error;
mod family;
mod file;
pub mod gguf;
mod hash;
mod peft;
pub mod quant;
mod rewrite;
pub mod safetensors;

pub use adapter::{
    Adapter, Half, LoraPair, LoraTensor, Matrix, StackedPair, StoredPair, inner_product,
};
pub use error::{
    AdapterFlaw, Error, GgufFlaw, MergeFlaw, Misfit, PeftFlaw, Result, SafetensorsFlaw,
};
pub use file::write_atomic;
pub use hash::sha256;
pub use rewrite::{Merged, Retyped, merge, requantize};
