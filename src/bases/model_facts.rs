//! The facts about a model that the header of its GGUF file gives.

use cope_convert::gguf::{GgmlType, Gguf};

use crate::{Error, Result};

/// Facts about a model, for people who choose one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.architecture`.
    pub architecture: String,
    /// The type of most of its weights.
    pub weight_type: Option<GgmlType>,
    /// Length of its files, in bytes.
    pub bytes: u64,
}

impl ModelFacts {
    /// Reads the facts from a header.
    ///
    /// # Errors
    ///
    /// The file names no architecture, is no model that answers, or is gone.
    pub fn of(header: &Gguf) -> Result<Self> {
        header.require_model()?;
        let architecture = header.architecture()?.to_owned();
        let does = |what: &str| Err(Error::input(format_args!("it {what} and cannot chat")));
        if architecture == "clip" {
            return does("reads images for another model");
        }
        if architecture.contains("bert") || architecture == "t5encoder" {
            return does("makes embeddings");
        }
        Ok(Self {
            architecture,
            weight_type: header.main_type(),
            bytes: header.n_file_bytes()?,
        })
    }
}
