//! The facts about a model that the header of its GGUF file gives.

use std::collections::HashMap;
use std::fs;

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
        let mut bytes = 0;
        for part in &header.parts {
            bytes += fs::metadata(part).map_err(Error::io("read", part))?.len();
        }
        let mut by_type: HashMap<GgmlType, u64> = HashMap::new();
        for tensor in &header.tensors {
            *by_type.entry(tensor.ggml_type).or_default() += tensor.shape.iter().product::<u64>();
        }
        let largest = by_type.into_iter().max_by_key(|&(_, values)| values);
        Ok(Self {
            architecture,
            weight_type: largest.map(|(weight_type, _)| weight_type),
            bytes,
        })
    }
}
