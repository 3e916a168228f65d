//! The families of models that can be trained: what sets one apart that its file does not say. What a file does say is
//! read from it: its settings ([`super::shape`]), and which biases and norms it holds.

use super::ops::gate::Activation;
use super::ops::rope::Pairs;

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
    /// The family of an architecture.
    pub fn of(architecture: &str) -> Option<&'static Self> {
        FAMILIES
            .iter()
            .find(|family| family.architecture == architecture)
    }

    /// The architectures that can be trained, for messages.
    pub fn supported() -> String {
        FAMILIES.map(|family| family.architecture).join(", ")
    }
}
