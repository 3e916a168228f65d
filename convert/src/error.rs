//! The one error of this crate. It carries the path of the file concerned and a flaw: an enum with a variant for each
//! way in which a file can be wrong.
//!
//! Every message is one line: text from a file is quoted with its control characters escaped.

mod adapter_flaw;
mod file_flaw;
mod location_flaw;

use std::io;
use std::path::PathBuf;

pub use adapter_flaw::{AdapterFlaw, MergeFlaw, Misfit, PeftFlaw};
pub use file_flaw::{GgufFlaw, SafetensorsFlaw};
pub use location_flaw::LocationFlaw;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A file that cannot be read, written or used, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("cannot {operation} {}: {reason}", path.display())]
    Io {
        /// A verb: `read` or `write`.
        operation: &'static str,
        /// The file concerned.
        path: PathBuf,
        /// The operating system's reason.
        reason: io::Error,
    },
    /// There is no such file.
    #[error("{} does not exist; check the path", path.display())]
    Missing {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// A folder, a device, an empty file, or a file of another format.
    #[error("{} is not a {format} file (it {found}); give a file in {format} format", path.display())]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// The format that was expected: `GGUF`, `safetensors` or `JSON`.
        format: &'static str,
        /// A verb phrase that says what was found instead, such as `is a folder`.
        found: String,
    },
    /// A pointer that Git LFS keeps in the place of a large file until the file itself is fetched.
    #[error("{} is a pointer of Git LFS and not the file itself; fetch the file with `git lfs pull`", path.display())]
    LfsPointer {
        /// The pointer's file.
        path: PathBuf,
    },
    /// A GGUF file whose header is malformed, or which lacks what was asked of it.
    #[error("{}: {flaw}", path.display())]
    Gguf {
        /// The file concerned.
        path: PathBuf,
        /// The fault found in it.
        flaw: GgufFlaw,
    },
    /// A safetensors file whose header is malformed.
    #[error("{}: {flaw}", path.display())]
    Safetensors {
        /// The file concerned.
        path: PathBuf,
        /// The fault found in it.
        flaw: SafetensorsFlaw,
    },
    /// A well-formed GGUF file that is not a usable LoRA adapter.
    #[error("{} is not a usable LoRA adapter: {flaw}", path.display())]
    Adapter {
        /// The adapter's file.
        path: PathBuf,
        /// The fault found in it.
        flaw: AdapterFlaw,
    },
    /// A path that does not lead to an adapter of PEFT or MLX.
    #[error("{}: {flaw}", path.display())]
    Location {
        /// The path that was given.
        path: PathBuf,
        /// The thing that was found there.
        flaw: LocationFlaw,
    },
    /// A PEFT folder whose adapter cannot be converted, or an adapter that cannot be written for PEFT.
    #[error("{}: {flaw}", path.display())]
    Peft {
        /// The file or folder concerned.
        path: PathBuf,
        /// The fault found in it.
        flaw: PeftFlaw,
    },
    /// A base whose model family this crate does not know.
    #[error("{} is of the family {architecture:?}, and adapters are converted for {known}", base.display())]
    Family {
        /// The base's file.
        base: PathBuf,
        /// Its `general.architecture`.
        architecture: String,
        /// The families that are known.
        known: String,
    },
    /// The base's numbers of heads contradict each other.
    #[error("{}: its {n_v} value heads cannot share {n_k} key heads", base.display())]
    Heads {
        /// The base's file.
        base: PathBuf,
        /// The number of key heads.
        n_k: u32,
        /// The number of value heads.
        n_v: u32,
    },
    /// A weight of a base that cannot be changed.
    #[error("{tensor:?} cannot be changed: {flaw}")]
    Merge {
        /// The base tensor.
        tensor: String,
        /// The reason.
        flaw: MergeFlaw,
    },
    /// The caller stopped the work.
    #[error("stopped, and nothing is written")]
    Interrupted,
    /// A GGUF file without the weight matrices of layers, such as one that holds a vocabulary alone.
    #[error("{} has no layers with weight matrices", .0.display())]
    NoMatrices(PathBuf),
    /// An adapter in the place of a model.
    #[error("{} is an adapter, not a model; give a model, or change an adapter's type with `convert adapter ADAPTER NEW.gguf --dtype TYPE`", .0.display())]
    NotModel(PathBuf),
    /// Adapters that cannot be added up.
    #[error("the adapters cannot be stacked: {0}")]
    Stack(String),
    /// A sound adapter and a sound base that do not belong together.
    #[error("the adapter does not fit {}: {misfit}", base.display())]
    Misfit {
        /// The base's file.
        base: PathBuf,
        /// The difference between the two.
        misfit: Misfit,
    },
}

impl Error {
    /// An [`Error::Io`] maker for `map_err`.
    pub(crate) fn io(
        operation: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Io {
            operation,
            path: path.to_owned(),
            reason,
        }
    }
}

/// The first 64 characters of a text from a file, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}
