//! The sizes and settings of a model, as its GGUF file gives them.

use cope_convert::gguf::Gguf;

use super::family::Family;
use super::lora::TargetModule;
use super::ops::attention::Heads;
use crate::llama::sliding_layers;
use crate::{Error, Result};

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of blocks.
    pub n_layer: usize,
    /// Number of features of the residual stream.
    pub n_embd: usize,
    /// Number of features of the feed-forward layers.
    pub n_ff: usize,
    /// The shape of the attention heads.
    pub heads: Heads,
    /// Number of tokens of the vocabulary.
    pub n_vocab: usize,
    /// Number of positions that the model was trained for.
    pub n_ctx: usize,
    /// ε of every norm, which is added under the square root.
    pub epsilon: f32,
    /// The rotary embedding in blocks with full attention.
    pub rope: RopeSettings,
    /// The blocks with sliding attention, if the model has any.
    pub sliding: Option<Sliding>,
}

/// Rotary position embedding: feature pair `i` is rotated by the angle `position · base^(−2i / n_rot) / factor`, and
/// multiplied by `magnitude`.
#[derive(Clone, Copy, Debug)]
pub struct RopeSettings {
    /// Number of a head's features that are rotated.
    pub n_rot: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Divisor of the frequencies (linear scaling).
    pub factor: f32,
    /// Factor of the rotated features, of queries and keys alike (`rope.scaling.attn_factor`).
    pub magnitude: f32,
}

/// Sliding attention: blocks whose tokens see only a window of the newest tokens.
#[derive(Clone, Debug)]
pub struct Sliding {
    /// Number of tokens that a token sees, itself among them.
    pub window: usize,
    /// For each block, whether it has sliding attention.
    pub layers: Vec<bool>,
    /// The rotary embedding in blocks with sliding attention.
    pub rope: RopeSettings,
}

impl Sliding {
    /// Whether the block `layer` has sliding attention.
    pub fn has(&self, layer: usize) -> bool {
        self.layers[layer]
    }
}

/// Settings that change what a model computes, and that training does not implement.
const UNKNOWN: [&str; 8] = [
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "attention.scale",
    "attention.clamp_kqv",
    "expert_count",
];

impl Shape {
    /// Reads the sizes from a file of `family`.
    ///
    /// # Errors
    /// A setting is missing, contradicts another, or is not supported in training.
    pub fn read(gguf: &Gguf, family: &Family) -> Result<Self> {
        let settings = ShapeReader {
            gguf,
            architecture: family.architecture,
        };
        for key in UNKNOWN {
            let name = settings.key(key);
            let off = matches!(gguf.u32(&name), Ok(0)) || matches!(gguf.f32(&name), Ok(0.0));
            if settings.has(key) && !off {
                return Err(
                    settings.flaw(&format!("the setting {name} is not supported in training"))
                );
            }
        }
        let embedding = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| settings.flaw("the tensor token_embd.weight is missing"))?;
        let (n_layer, n_embd) = (
            settings.size("block_count")?,
            settings.size("embedding_length")?,
        );
        // Gemma 3 27B is the only model of the family whose queries are not scaled by 1 / √head_dim.
        if family.architecture == "gemma3" && n_layer == 62 {
            return Err(settings.flaw("Gemma 3 27B is not supported in training"));
        }
        let n_vocab = embedding.shape.get(1).map_or(0, |&n| n as usize);
        let heads = settings.heads(n_embd)?;
        let rope = settings.rope(heads)?;
        Ok(Self {
            n_layer,
            n_embd,
            n_ff: settings.size("feed_forward_length")?,
            heads,
            n_vocab,
            n_ctx: settings.size("context_length")?,
            epsilon: gguf.f32(&settings.key("attention.layer_norm_rms_epsilon"))?,
            rope,
            sliding: settings.sliding(family, n_layer, heads, rope)?,
        })
    }

    /// `(out, in)` of a linear layer.
    pub fn linear(&self, target: TargetModule) -> (usize, usize) {
        let (q, kv) = (
            self.heads.n_head * self.heads.head_dim,
            self.heads.n_head_kv * self.heads.head_dim,
        );
        match target {
            TargetModule::Q => (q, self.n_embd),
            TargetModule::K | TargetModule::V => (kv, self.n_embd),
            TargetModule::O => (self.n_embd, q),
            TargetModule::Gate | TargetModule::Up => (self.n_ff, self.n_embd),
            TargetModule::Down => (self.n_embd, self.n_ff),
        }
    }
}

/// A reader of one file's settings, whose keys begin with the architecture.
struct ShapeReader<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl ShapeReader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn has(&self, name: &str) -> bool {
        self.gguf.get(&self.key(name)).is_some()
    }

    fn size(&self, name: &str) -> Result<usize> {
        Ok(self.gguf.u32(&self.key(name))? as usize)
    }

    fn size_or(&self, name: &str, default: usize) -> Result<usize> {
        if self.has(name) {
            self.size(name)
        } else {
            Ok(default)
        }
    }

    fn f32(&self, name: &str, default: f32) -> Result<f32> {
        if self.has(name) {
            Ok(self.gguf.f32(&self.key(name))?)
        } else {
            Ok(default)
        }
    }

    fn heads(&self, n_embd: usize) -> Result<Heads> {
        let n_head = self.size("attention.head_count")?;
        let n_head_kv = self.size_or("attention.head_count_kv", n_head)?;
        if n_head == 0 || n_head_kv == 0 || n_head % n_head_kv != 0 {
            return Err(self.flaw(&format!(
                "{n_head} heads cannot share {n_head_kv} key heads"
            )));
        }
        let head_dim = self.size_or("attention.key_length", n_embd / n_head)?;
        if head_dim == 0 || self.size_or("attention.value_length", head_dim)? != head_dim {
            return Err(self.flaw(
                "keys and values have different lengths, which is not supported in training",
            ));
        }
        Ok(Heads {
            n_head,
            n_head_kv,
            head_dim,
        })
    }

    fn rope(&self, heads: Heads) -> Result<RopeSettings> {
        // Without a type, the scaling is linear. The files of 2023 call the factor scale_linear.
        let scaling = if self.has("rope.scaling.type") {
            self.gguf.str(&self.key("rope.scaling.type"))?
        } else {
            "linear"
        };
        let factor = ["rope.scaling.factor", "rope.scale_linear"];
        let factor = factor.into_iter().find(|key| self.has(key));
        let factor = factor.map_or(Ok(0.0), |key| self.f32(key, 0.0))?;
        let factor = match (scaling, factor) {
            ("none", _) | ("linear", 0.0) => 1.0,
            ("linear", factor) => factor,
            (other, _) => {
                return Err(self.flaw(&format!(
                    "RoPE scaling of type '{other}' is not supported in training"
                )));
            }
        };
        let (n_rot, head_dim) = (
            self.size_or("rope.dimension_count", heads.head_dim)?,
            heads.head_dim,
        );
        if n_rot == 0 || n_rot % 2 != 0 || n_rot > head_dim {
            return Err(self.flaw(&format!(
                "RoPE cannot rotate {n_rot} of a head's {head_dim} features"
            )));
        }
        Ok(RopeSettings {
            n_rot,
            base: self.f32("rope.freq_base", 10_000.0)?,
            factor,
            magnitude: self.f32("rope.scaling.attn_factor", 1.0)?,
        })
    }

    fn sliding(
        &self,
        family: &Family,
        n_layer: usize,
        heads: Heads,
        rope: RopeSettings,
    ) -> Result<Option<Sliding>> {
        let Some(pattern) = family.sliding_pattern else {
            return Ok(None);
        };
        let window = self.size_or("attention.sliding_window", 0)?;
        if window == 0 {
            return Ok(None);
        }
        for (key, full) in [
            ("attention.key_length_swa", heads.head_dim),
            ("attention.value_length_swa", heads.head_dim),
            ("rope.dimension_count_swa", rope.n_rot),
        ] {
            if self.size_or(key, full)? != full {
                return Err(self.flaw(&format!(
                    "heads of another size in blocks with sliding attention ({}) are not supported in training",
                    self.key(key)
                )));
            }
        }
        Ok(Some(Sliding {
            window,
            layers: sliding_layers(self.gguf, self.architecture, n_layer, pattern),
            rope: RopeSettings {
                base: self.f32("rope.freq_base_swa", 10_000.0)?,
                factor: 1.0,
                ..rope
            },
        }))
    }

    fn flaw(&self, reason: &str) -> Error {
        Error::input(format_args!("{}: {reason}", self.gguf.path.display()))
    }
}
