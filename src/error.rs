//! The one error of the library: what was being done, to which file, and what went wrong.

use std::path::{Path, PathBuf};

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. Each message is one line that says what is wrong, where, and, where it helps, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// A verb: `read`, `write`, `rename`, …
        operation: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A GGUF file or an adapter is malformed, or does not fit its base.
    #[error(transparent)]
    Convert(#[from] cope_convert::Error),
    /// The contrast of two models was given settings out of their range, or logits that are no numbers.
    #[error(transparent)]
    Contrast(#[from] cope_contrast::Error),
    /// Something that a person gave (a file, a name, an option) cannot be used; the message says what to do.
    #[error("{0}")]
    Input(String),
    /// Another process is at work on a user's folder.
    #[error("another cope-llama is importing or training {0}; wait until it has ended")]
    Locked(String),
    /// llama.cpp refused an operation on files that passed our checks.
    #[error("llama.cpp failed to {operation}{}", if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    Llama {
        /// A verb phrase: `load the model …`, `decode 12 tokens`, …
        operation: String,
        /// The last error that llama.cpp logged, or an explanation of its return code; may be empty.
        reason: String,
    },
    /// A chat template could not be rendered.
    #[error("the model's chat template failed: {0}")]
    Template(String),
    /// A tensor operation of training failed.
    #[error("training failed: {0}")]
    Train(String),
    /// The person stopped the work (Ctrl-C); what was finished is kept.
    #[error("stopped; what was finished is kept, and the same command goes on from there")]
    Interrupted,
}

impl Error {
    /// An [`Error::Io`] maker for `map_err`.
    pub fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// An [`Error::Input`] from anything that displays.
    pub fn input(message: impl std::fmt::Display) -> Self {
        Self::Input(message.to_string())
    }
}
