//! Reads, checks, converts and merges LoRA adapters and GGUF files, without llama.cpp and without a tensor library.
//!
//! llama.cpp answers a bad file with a null pointer and no reason, and some ill-formed adapters reach an assertion that
//! ends the process. So every GGUF file that a person gives is read here first, by a reader that trusts no number or
//! name in the file before it has checked it.
//!
//! - [`gguf::Gguf`]: the header of a GGUF file, read with bounded memory, and its tensors' bytes, read on demand.
//! - [`gguf::write`]: writes a GGUF file from metadata and tensors; the same input gives the same bytes.
//! - [`safetensors::SafeTensors`] and [`safetensors::write`]: the same for safetensors files, as PEFT has them.
//! - [`Adapter`]: a LoRA adapter, read from and written to GGUF files and PEFT folders, and checked against its base.
//!   Its weights are in memory, or stay on disk until a pair of matrices is asked for ([`LoraPair`]).
//! - [`merge`]: adds adapters to a base's weights and rounds them to a quantised type ([`quant`]); [`requantize`]
//!   rounds a base's weights to another type.
//! - [`sha256`]: the hash of a file, by which a base is identified.
//!
//! A file is written under a temporary name and then renamed, so a half-written file never has the final name.
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

// One function asks the CPU for its features, by an instruction that older compilers call unsafe.
#![deny(unsafe_code)]
// `say!` does not end a program where stderr is closed.
#![deny(clippy::print_stderr)]

mod adapter;
pub mod cli;
mod error;
mod family;
mod file;
mod ggml_type;
pub mod gguf;
mod hash;
mod peft;
pub mod quant;
mod rewrite;
mod rope_factors;
pub mod safetensors;
mod value_heads;

pub use adapter::{
    Adapter, Half, LoraPair, LoraTensor, Matrix, StackedPair, StoredPair, inner_product,
};
pub use error::{
    AdapterFlaw, Error, GgufFlaw, LocationFlaw, MergeFlaw, Misfit, PeftFlaw, Result,
    SafetensorsFlaw,
};
pub use family::fused_tensor;
pub use file::write_atomic;
pub use hash::{files, sha256};
pub use peft::left_out;
pub use rewrite::{Merged, Retyped, merge, requantize};
pub use rope_factors::RopeFactors;
