//! The model families that can be trained, with the differences between them that a GGUF file does not state.
//! Everything else is read from the file: its settings ([`super::shape`]), and which biases it holds.
//!
//! A new family is an entry in the list here, and a tiny model of it in the tests. llama.cpp is the reference: where it
//! and transformers read a model differently, an entry says what llama.cpp does.

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
    /// Where a block has norms.
    pub norms: Norms,
    /// The norms of queries and keys.
    pub query_norms: QueryNorms,
    /// Whether the output head may be a matrix of its own.
    pub head: OutputHead,
    /// Which blocks have another mixer than attention.
    pub mixers: Mixers,
    /// The name of the last norm's tensor, before `.weight`.
    pub output_norm: &'static str,
    /// The name of the norm's tensor before the feed-forward layers, within a block and before `.weight`.
    pub feed_forward_norm: &'static str,
    /// Whether the embedding is multiplied by `√n_embd`.
    pub scales_embedding: bool,
    /// Sliding attention, in families that have it.
    pub sliding: Option<SlidingBlocks>,
    /// Which blocks have no rotary embedding.
    pub unrotated: Unrotated,
    /// The divisor of the scores of attention.
    pub score_divisor: ScoreDivisor,
    /// Whether blocks differ in more than their mixers.
    pub blocks: Blocks,
    /// Whether a file gives factors of the embedding, the scores, the residuals and the logits.
    pub has_multipliers: bool,
    /// Whether a file gives the ramp and the magnitude of `YaRN`, and a temperature of attention.
    pub has_yarn_settings: bool,
    /// The tensor that holds the gate of the feed-forward layers.
    pub gate: GateTensor,
    /// The divisors of the rotary frequencies that a file may give.
    pub divisors: Divisors,
    /// The soft cap of the scores if a file gives none; `None` in families without one.
    pub score_cap: Option<f32>,
    /// The soft cap of the logits if a file gives none, with 0 for no cap; `None` in families without one.
    pub logit_cap: Option<f32>,
}

/// The norms of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Before attention and before the feed-forward layers.
    Before,
    /// After each of them, before its result is added to the residual stream.
    After,
    /// Before and after.
    Both,
}

impl Norms {
    /// Whether there is a norm before attention and before the feed-forward layers.
    pub fn are_before(self) -> bool {
        self != Self::After
    }

    /// Whether there is a norm after each of them.
    pub fn are_after(self) -> bool {
        self != Self::Before
    }
}

/// The norms of queries and of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryNorms {
    /// There are none.
    Absent,
    /// Over each head.
    Head,
    /// Over all heads together.
    Width,
}

/// The blocks without rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrotated {
    /// None of them.
    Never,
    /// The last of this many blocks in a row.
    LastOf(usize),
    /// All of them in a file with `rope.scaling.finetuned = false`.
    AllUnlessFinetuned,
}

/// The tensor of the gate of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateTensor {
    /// The gate has a tensor of its own.
    Own,
    /// The upward projection follows in the same tensor.
    WithUp,
}

/// The divisor of the scores of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreDivisor {
    /// `√head_dim`
    Head,
    /// `√(n_embd / n_head)` in the one model of the family that has this many blocks, and `√head_dim` in the others.
    WidthOf(usize),
    /// 1: the norms of queries and keys set the size of the scores.
    One,
}

/// The shapes of the blocks beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// They have the same heads and the same width of the feed-forward layers.
    Alike,
    /// Gemma 4's: heads of blocks with sliding attention have a length of their own, the last blocks use the keys and
    /// values of earlier ones, values have a norm without a weight and may be the keys, and a block may have an input
    /// beside the residual stream and a factor of its result.
    Varied,
}

/// The divisors of the rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisors {
    /// One set for all contexts.
    OneSet,
    /// One set for all contexts, with a divisor for every pair of a head's features, whether they are rotated or not.
    WholeHead,
    /// A set for short contexts, and another for long ones.
    TwoSets,
}

/// The mixers of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixers {
    /// All have attention.
    Attention,
    /// Blocks without heads of keys have a short convolution.
    ShortConv,
    /// Most blocks have a gated delta net; the others' attention has a gate.
    DeltaNet,
}

/// The output head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputHead {
    /// A matrix of its own, or the token embedding if the file has no such matrix.
    OwnOrTied,
    /// A matrix of its own.
    Own,
    /// The token embedding.
    Tied,
}

/// Sliding attention: which blocks have it is known to [`crate::llama`], and these are its window and rotation.
#[derive(Clone, Copy, Debug)]
pub struct SlidingBlocks {
    /// The window of a file that gives none, in tokens; 0 for full attention in all blocks.
    pub window: usize,
    /// The rotary embedding of blocks with sliding attention.
    pub rope: SlidingRope,
}

/// The rotary embedding of blocks with sliding attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlidingRope {
    /// A base of their own, which is 10,000 if the file gives none, and no scaling.
    OwnBase,
    /// The scaling of the other blocks, and their base if the file gives none.
    Scaled,
    /// The base of the other blocks, and no scaling.
    Unscaled,
}

/// A plain transformer, which the families differ from.
const PLAIN: Family = Family {
    architecture: "",
    pairs: Pairs::Halves,
    activation: Activation::Silu,
    norms: Norms::Before,
    query_norms: QueryNorms::Absent,
    head: OutputHead::OwnOrTied,
    mixers: Mixers::Attention,
    output_norm: "output_norm",
    feed_forward_norm: "ffn_norm",
    scales_embedding: false,
    sliding: None,
    unrotated: Unrotated::Never,
    score_divisor: ScoreDivisor::Head,
    blocks: Blocks::Alike,
    has_multipliers: false,
    has_yarn_settings: false,
    gate: GateTensor::Own,
    divisors: Divisors::OneSet,
    score_cap: None,
    logit_cap: None,
};

const FAMILIES: &[Family] = &[
    Family {
        architecture: "llama",
        pairs: Pairs::Adjacent,
        ..PLAIN
    },
    Family {
        architecture: "qwen2",
        ..PLAIN
    },
    Family {
        architecture: "qwen3",
        query_norms: QueryNorms::Head,
        ..PLAIN
    },
    Family {
        architecture: "gemma3",
        activation: Activation::Gelu,
        norms: Norms::Both,
        query_norms: QueryNorms::Head,
        scales_embedding: true,
        sliding: Some(SlidingBlocks {
            window: 0,
            rope: SlidingRope::OwnBase,
        }),
        score_divisor: ScoreDivisor::WidthOf(62),
        logit_cap: Some(0.0),
        ..PLAIN
    },
    Family {
        architecture: "smollm3",
        pairs: Pairs::Adjacent,
        unrotated: Unrotated::LastOf(4),
        ..PLAIN
    },
    Family {
        architecture: "granite",
        pairs: Pairs::Adjacent,
        unrotated: Unrotated::AllUnlessFinetuned,
        has_multipliers: true,
        ..PLAIN
    },
    Family {
        architecture: "mistral3",
        pairs: Pairs::Adjacent,
        has_yarn_settings: true,
        ..PLAIN
    },
    Family {
        architecture: "phi3",
        gate: GateTensor::WithUp,
        divisors: Divisors::TwoSets,
        ..PLAIN
    },
    Family {
        architecture: "olmo2",
        norms: Norms::After,
        query_norms: QueryNorms::Width,
        head: OutputHead::Own,
        sliding: Some(SlidingBlocks {
            window: 0,
            rope: SlidingRope::Unscaled,
        }),
        ..PLAIN
    },
    Family {
        architecture: "gemma2",
        activation: Activation::Gelu,
        norms: Norms::Both,
        head: OutputHead::Tied,
        scales_embedding: true,
        sliding: Some(SlidingBlocks {
            window: 4096,
            rope: SlidingRope::Scaled,
        }),
        score_divisor: ScoreDivisor::WidthOf(46),
        score_cap: Some(50.0),
        logit_cap: Some(30.0),
        ..PLAIN
    },
    Family {
        architecture: "gemma4",
        activation: Activation::Gelu,
        norms: Norms::Both,
        query_norms: QueryNorms::Head,
        scales_embedding: true,
        sliding: Some(SlidingBlocks {
            window: 0,
            rope: SlidingRope::OwnBase,
        }),
        score_divisor: ScoreDivisor::One,
        blocks: Blocks::Varied,
        divisors: Divisors::WholeHead,
        logit_cap: Some(30.0),
        ..PLAIN
    },
    Family {
        architecture: "lfm2",
        query_norms: QueryNorms::Head,
        mixers: Mixers::ShortConv,
        output_norm: "token_embd_norm",
        ..PLAIN
    },
    Family {
        architecture: "qwen35",
        query_norms: QueryNorms::Head,
        mixers: Mixers::DeltaNet,
        feed_forward_norm: "post_attention_norm",
        ..PLAIN
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
            let names: Vec<_> = FAMILIES.iter().map(|it| it.architecture).collect();
            let supported = names.join(", ");
            Error::input(format_args!(
                "{}: models of architecture '{architecture}' cannot be trained yet; supported: {supported}",
                gguf.path.display(),
            ))
        })
    }
}
