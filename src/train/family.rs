//! The model families that can be trained, with the differences between them that a GGUF file does not state.
//! Everything else is read from the file: its settings ([`super::shape`]), and which biases and norms it holds.
//!
//! A new family is an entry in the list here, and a tiny model of it in the tests.

use cope_convert::gguf::Gguf;

use super::ops::gate::Activation;
use super::ops::rope::Pairs;
use crate::{Error, Result};

/// A family of models.
#[derive(Debug)]
pub struct Family {
    /// The value of `general.architecture`.
    pub architecture: &'static str,
    /// Which features of a head the rotary embedding rotates together.
    pub pairs: Pairs,
    /// The activation of the feed-forward gate.
    pub activation: Activation,
    /// Whether the embedding is multiplied by `√n_embd`.
    pub scales_embedding: bool,
    /// For families with sliding attention: the last of this many blocks in a row has full attention, the others have
    /// sliding attention. A file may give another number.
    pub sliding_pattern: Option<u32>,
}

const FAMILIES: [Family; 4] = [
    Family {
        architecture: "llama",
        pairs: Pairs::Adjacent,
        activation: Activation::Silu,
        scales_embedding: false,
        sliding_pattern: None,
    },
    Family {
        architecture: "qwen2",
        pairs: Pairs::Halves,
        activation: Activation::Silu,
        scales_embedding: false,
        sliding_pattern: None,
    },
    Family {
        architecture: "qwen3",
        pairs: Pairs::Halves,
        activation: Activation::Silu,
        scales_embedding: false,
        sliding_pattern: None,
    },
    Family {
        architecture: "gemma3",
        pairs: Pairs::Halves,
        activation: Activation::Gelu,
        scales_embedding: true,
        sliding_pattern: Some(6),
    },
];

impl Family {
    /// The family of a model.
    ///
    /// # Errors
    /// The model's architecture is in no family.
    pub fn of(gguf: &Gguf) -> Result<&'static Self> {
        let architecture = gguf.architecture()?;
        let family = FAMILIES
            .iter()
            .find(|family| family.architecture == architecture);
        family.ok_or_else(|| {
            let supported = FAMILIES.map(|family| family.architecture).join(", ");
            Error::input(format_args!(
                "{}: models of architecture '{architecture}' cannot be trained yet; supported: {supported}",
                gguf.path.display(),
            ))
        })
    }
}
