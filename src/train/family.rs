//! The families of models that can be trained: what sets one apart that its file does not say. What a file does say is
//! read from it: its settings ([`super::shape`]), and which biases and norms it holds.

use cope_convert::gguf::Gguf;

use super::ops::gate::Activation;
use super::ops::rope::Pairs;
use crate::{Error, Result};

/// A family of models.
#[derive(Debug)]
pub struct Family {
    /// As `general.architecture` names it.
    pub architecture: &'static str,
    /// Which features of a head turn together.
    pub pairs: Pairs,
    /// The activation of the feed-forward gate.
    pub activation: Activation,
    /// Whether the embedding is multiplied by `√n_embd`.
    pub scales_embedding: bool,
    /// Whether blocks alternate between sliding and full attention: of so many in a row the last one is full. A file
    /// may give another number.
    pub sliding_pattern: Option<usize>,
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
    /// It is of none of these.
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
