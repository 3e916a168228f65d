//! The sizes and settings of a model, as its GGUF file gives them.

mod heads;
mod mixers;

use cope_convert::gguf::{Gguf, Value};

use super::family::{Blocks, Divisors, Family, Mixers, SlidingRope, Unrotated};
use super::head::LogitScaling;
use super::ops::soft_cap::SoftCap;
use super::rotary::{RopeSettings, Temperature, Yarn};
use super::target::{LinearTensor, TargetModule};
use crate::llama::sliding_layers;
use crate::{Error, Result};

pub use heads::{AttentionShape, KeySource};
pub use mixers::{DeltaShape, MixerShape};

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of blocks, without those that predict further tokens.
    pub n_layer: usize,
    /// Number of blocks that predict further tokens, which have no part in training.
    pub n_further: usize,
    /// Number of features of the residual stream.
    pub n_embd: usize,
    /// Number of features of each block's feed-forward layers.
    pub n_ff: Vec<usize>,
    /// Number of features of the input that each block has beside the residual stream, if it has one.
    pub n_input: Option<usize>,
    /// The tensors that hold the linear layers of each block.
    pub linear_tensors: Vec<Vec<LinearTensor>>,
    /// The mixer of each block.
    pub mixers: Vec<MixerShape>,
    /// Number of tokens of the vocabulary.
    pub n_vocab: usize,
    /// Number of positions that the model was trained for.
    pub n_ctx: usize,
    /// ε of every norm, which is added under the square root.
    pub epsilon: f32,
    /// The rotary embedding in blocks with full attention.
    pub rope: RopeSettings,
    /// For each block, whether it has a rotary embedding.
    pub rotates: Vec<bool>,
    /// The temperature of attention, if the model has one.
    pub temperature: Option<Temperature>,
    /// The blocks with sliding attention, if the model has any.
    pub sliding: Option<Sliding>,
    /// Factor of the embedding.
    pub embedding_scale: Option<f32>,
    /// Factor of what a block adds to the residual stream.
    pub residual_scale: Option<f32>,
    /// Turns the results of the output head into logits; `None` where they are the logits.
    pub logit_scaling: Option<LogitScaling>,
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

/// The number of experts in the feed-forward layers.
const EXPERTS: &str = "expert_count";
/// Settings that change what a model computes, and that training does not implement.
const UNKNOWN: [&str; 3] = ["attention.clamp_kqv", "deepstack_mapping", EXPERTS];
/// Factors of the embedding, the residuals, the scores and the logits, which training implements for the families that
/// have them.
const MULTIPLIERS: [&str; 4] = [
    "embedding_scale",
    "residual_scale",
    "attention.scale",
    "logit_scale",
];
const SCORE_CAP: &str = "attn_logit_softcapping";
const LOGIT_CAP: &str = "final_logit_softcapping";

impl Shape {
    /// Reads the sizes from a file of `family`.
    ///
    /// # Errors
    /// A setting is missing, contradicts another, or is not supported in training.
    pub fn read(gguf: &Gguf, family: &'static Family) -> Result<Self> {
        let settings = ShapeReader { gguf, family };
        settings.refuse_unknown()?;
        let embedding = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| settings.flaw("the tensor token_embd.weight is missing"))?;
        let (n_blocks, n_embd) = (
            settings.size("block_count")?,
            settings.size("embedding_length")?,
        );
        let n_further = settings.n_further(n_blocks)?;
        let n_layer = n_blocks - n_further;
        let n_vocab = embedding.shape.get(1).map_or(0, |&n| n as usize);
        let n_ctx = settings.size("context_length")?;
        let heads = settings.heads(n_layer, n_embd)?;
        let rope = settings.rope(heads.head_dim, n_ctx)?;
        let sliding = settings.sliding(n_layer, rope)?;
        let attention = settings.attention(n_layer, heads, sliding.as_ref())?;
        let embedding_scale = if family.scales_embedding {
            Some((n_embd as f32).sqrt())
        } else {
            settings.multiplier("embedding_scale")?
        };
        let mut shape = Self {
            n_layer,
            n_further,
            n_embd,
            n_ff: settings.n_ff(n_layer)?,
            n_input: settings.n_input()?,
            linear_tensors: Vec::new(),
            mixers: settings.mixers(n_blocks, attention)?,
            n_vocab,
            n_ctx,
            epsilon: gguf.f32(&settings.key("attention.layer_norm_rms_epsilon"))?,
            rope,
            rotates: settings.rotates(n_layer)?,
            temperature: settings.temperature(n_ctx)?,
            sliding,
            embedding_scale,
            residual_scale: settings.multiplier("residual_scale")?,
            logit_scaling: settings.logit_scaling()?,
        };
        let tensors = |layer| {
            let has = |target| shape.linear(layer, target).is_some();
            LinearTensor::of_block(gguf, family, layer, has)
        };
        shape.linear_tensors = (0..n_layer).map(tensors).collect();
        Ok(shape)
    }

    /// The attention of a block, if its mixer is that.
    pub fn attention(&self, layer: usize) -> Option<&AttentionShape> {
        match &self.mixers[layer] {
            MixerShape::Attention(attention) => Some(attention),
            MixerShape::ShortConv { .. } | MixerShape::DeltaNet(_) => None,
        }
    }

    /// Whether later blocks use the keys and values of a block too.
    pub fn are_keys_shared(&self, layer: usize) -> bool {
        let mut later = layer + 1..self.n_layer;
        later.any(|later| self.earlier_keys(later) == Some(layer))
    }

    /// The earlier block whose keys and values a block uses, if it has none of its own.
    pub fn earlier_keys(&self, layer: usize) -> Option<usize> {
        match self.attention(layer)?.keys {
            KeySource::Earlier(source) => Some(source),
            KeySource::Own | KeySource::Single => None,
        }
    }

    /// `(out, in)` of all linear layers of these kinds, in all blocks.
    pub fn linears<'a>(
        &'a self,
        targets: &'a [TargetModule],
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        (0..self.n_layer).flat_map(move |layer| {
            let targets = targets.iter();
            targets.filter_map(move |&target| self.linear(layer, target))
        })
    }

    /// The numbers of output features of the layers that a tensor of a block holds, and the number of their input features.
    pub fn tensor(&self, layer: usize, tensor: LinearTensor) -> (Vec<usize>, usize) {
        let layers = tensor.layers.iter();
        let shapes = layers.filter_map(|&target| self.linear(layer, target));
        let (rows, n_in): (Vec<_>, Vec<_>) = shapes.unzip();
        (rows, n_in.first().copied().unwrap_or_default())
    }

    /// `(out, in)` of a linear layer of a block; `None` if the block has no such layer.
    pub fn linear(&self, layer: usize, target: TargetModule) -> Option<(usize, usize)> {
        let (n_embd, n_ff) = (self.n_embd, self.n_ff[layer]);
        match target {
            TargetModule::Gate | TargetModule::Up => Some((n_ff, n_embd)),
            TargetModule::Down => Some((n_embd, n_ff)),
            TargetModule::PerLayerInputGate => Some((self.n_input?, n_embd)),
            TargetModule::PerLayerProjection => Some((n_embd, self.n_input?)),
            _ => self.mixers[layer].linear(target, n_embd),
        }
    }
}

/// A reader of one file's settings, whose keys begin with the architecture.
struct ShapeReader<'a> {
    gguf: &'a Gguf,
    family: &'static Family,
}

impl ShapeReader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family.architecture)
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

    /// Refuses settings that training does not implement, unless they are 0.
    fn refuse_unknown(&self) -> Result<()> {
        let mut unknown = UNKNOWN.to_vec();
        if !self.family.has_multipliers {
            unknown.extend(MULTIPLIERS);
        }
        if self.family.score_cap.is_none() {
            unknown.push(SCORE_CAP);
        }
        if self.family.logit_cap.is_none() {
            unknown.push(LOGIT_CAP);
        }
        if self.family.mixers == Mixers::ShortConv {
            unknown.push("attention.sliding_window");
        }
        for key in unknown {
            let name = self.key(key);
            let off =
                matches!(self.gguf.u32(&name), Ok(0)) || matches!(self.gguf.f32(&name), Ok(0.0));
            if self.has(key) && !off {
                let chat = match key {
                    EXPERTS => ", and its model can be used for chats without an adapter",
                    _ => "",
                };
                return Err(self.flaw(&format!(
                    "the setting {name} is not supported in training{chat}"
                )));
            }
        }
        Ok(())
    }

    /// A factor that a file of this family may give; `None` if it gives none, or 0.
    fn multiplier(&self, key: &str) -> Result<Option<f32>> {
        if !self.family.has_multipliers {
            return Ok(None);
        }
        Ok(match self.f32(key, 0.0)? {
            0.0 => None,
            factor => Some(factor),
        })
    }

    /// A soft cap that is `default` if the file gives none, and none for 0.
    fn soft_cap(&self, key: &str, default: Option<f32>) -> Result<Option<SoftCap>> {
        let Some(default) = default else {
            return Ok(None);
        };
        Ok(match self.f32(key, default)? {
            0.0 => None,
            cap => Some(SoftCap(cap)),
        })
    }

    fn logit_scaling(&self) -> Result<Option<LogitScaling>> {
        let soft_cap = self.soft_cap(LOGIT_CAP, self.family.logit_cap)?;
        if self.family.has_multipliers {
            let divisor = self.gguf.f32(&self.key("logit_scale"))?;
            if divisor == 0.0 {
                return Err(self.flaw(&format!("{} is 0", self.key("logit_scale"))));
            }
            let scale = divisor.recip();
            return Ok(Some(LogitScaling { scale, soft_cap }));
        }
        Ok(soft_cap.map(|_| LogitScaling {
            scale: 1.0,
            soft_cap,
        }))
    }

    /// The width of each block's feed-forward layers.
    fn n_ff(&self, n_layer: usize) -> Result<Vec<usize>> {
        let key = "feed_forward_length";
        match self.of_each(key, n_layer)? {
            Some(widths) => Ok(widths),
            None => Ok(vec![self.size(key)?; n_layer]),
        }
    }

    /// Number of features of the input that each block has beside the residual stream.
    fn n_input(&self) -> Result<Option<usize>> {
        if self.family.blocks == Blocks::Alike {
            return Ok(None);
        }
        let n_input = self.size_or("embedding_length_per_layer_input", 0)?;
        Ok((n_input > 0).then_some(n_input))
    }

    fn rope(&self, head_dim: usize, n_ctx: usize) -> Result<RopeSettings> {
        // Without a type, the scaling is linear.
        let scaling = if self.has("rope.scaling.type") {
            self.gguf.str(&self.key("rope.scaling.type"))?
        } else {
            "linear"
        };
        let factor = match scaling {
            "none" => 1.0,
            "linear" | "yarn" => self.rope_factor()?,
            // llama.cpp reads this type as linear, beside the two sets of factors.
            "longrope" if self.family.divisors == Divisors::TwoSets => self.rope_factor()?,
            other => {
                return Err(self.flaw(&format!(
                    "RoPE scaling of type '{other}' is not supported in training"
                )));
            }
        };
        let n_rot = self.size_or("rope.dimension_count", head_dim)?;
        self.check_rotated(n_rot, head_dim)?;
        let mut rope = RopeSettings {
            head_dim,
            n_rot,
            base: self.f32("rope.freq_base", 10_000.0)?,
            factor,
            magnitude: self.f32("rope.scaling.attn_factor", 1.0)?,
            yarn: None,
        };
        if scaling == "yarn" {
            // Only some families read the settings of YaRN beyond the factor and the original context.
            let setting = |key: &str, default| {
                if self.family.has_yarn_settings {
                    self.f32(&format!("rope.scaling.{key}"), default)
                } else {
                    Ok(default)
                }
            };
            rope.yarn = Some(Yarn {
                n_ctx: match self.original_context(n_ctx)? {
                    0 => n_ctx,
                    original => original,
                },
                beta_fast: setting("yarn_beta_fast", 32.0)?,
                beta_slow: setting("yarn_beta_slow", 1.0)?,
            });
            rope.magnitude *= Yarn::magnitude(factor, setting("yarn_log_multiplier", 0.0)?);
        }
        Ok(rope)
    }

    /// The factor of the scaling, 1 if the file gives none or 0. The files of 2023 call it `scale_linear`.
    fn rope_factor(&self) -> Result<f32> {
        let key = if self.has("rope.scaling.factor") {
            "rope.scaling.factor"
        } else {
            "rope.scale_linear"
        };
        Ok(match self.f32(key, 0.0)? {
            0.0 => 1.0,
            factor => factor,
        })
    }

    /// The number of positions that the model was trained for before its context was stretched.
    fn original_context(&self, n_ctx: usize) -> Result<usize> {
        self.size_or("rope.scaling.original_context_length", n_ctx)
    }

    fn temperature(&self, n_ctx: usize) -> Result<Option<Temperature>> {
        let key = "attention.temperature_scale";
        if !self.family.has_yarn_settings {
            return Ok(None);
        }
        match (self.f32(key, 0.0)?, self.original_context(n_ctx)?) {
            (0.0, _) => Ok(None),
            (_, 0) => Err(self.flaw(&format!(
                "{} needs an original context length above 0",
                self.key(key)
            ))),
            (scale, n_ctx) => Ok(Some(Temperature { scale, n_ctx })),
        }
    }

    /// For each block, whether it has a rotary embedding.
    fn rotates(&self, n_layer: usize) -> Result<Vec<bool>> {
        let key = self.key("rope.scaling.finetuned");
        Ok(match self.family.unrotated {
            Unrotated::Never => vec![true; n_layer],
            Unrotated::LastOf(n) => (1..=n_layer).map(|i| !i.is_multiple_of(n)).collect(),
            Unrotated::AllUnlessFinetuned => match self.gguf.get(&key) {
                None => vec![true; n_layer],
                Some(Value::Bool(is_finetuned)) => vec![*is_finetuned; n_layer],
                Some(_) => return Err(self.flaw(&format!("{key} is neither true nor false"))),
            },
        })
    }

    fn check_rotated(&self, n_rot: usize, head_dim: usize) -> Result<()> {
        if n_rot == 0 || !n_rot.is_multiple_of(2) || n_rot > head_dim {
            return Err(self.flaw(&format!(
                "RoPE cannot rotate {n_rot} of a head's {head_dim} features"
            )));
        }
        Ok(())
    }

    /// Sliding attention, with `rope` in blocks with full attention.
    fn sliding(&self, n_layer: usize, rope: RopeSettings) -> Result<Option<Sliding>> {
        let Some(blocks) = self.family.sliding else {
            return Ok(None);
        };
        let window = self.size_or("attention.sliding_window", blocks.window)?;
        if window == 0 {
            return Ok(None);
        }
        let mut lengths = [rope.head_dim, rope.head_dim, rope.n_rot];
        let keys = [
            "attention.key_length_swa",
            "attention.value_length_swa",
            "rope.dimension_count_swa",
        ];
        for (key, length) in keys.into_iter().zip(&mut lengths) {
            let full = std::mem::replace(length, self.size_or(key, *length)?);
            if *length != full && self.family.blocks == Blocks::Alike {
                return Err(self.flaw(&format!(
                    "heads of another size in blocks with sliding attention ({}) are not supported in training",
                    self.key(key)
                )));
            }
        }
        let [head_dim, value_length, n_rot] = lengths;
        self.check_lengths(head_dim, value_length)?;
        self.check_rotated(n_rot, head_dim)?;
        let sliding_rope = self.sliding_rope(blocks.rope, rope)?;
        Ok(Some(Sliding {
            window,
            layers: sliding_layers(self.gguf, self.family.architecture, n_layer),
            rope: RopeSettings {
                head_dim,
                n_rot,
                ..sliding_rope
            },
        }))
    }

    /// The rotary embedding in blocks with sliding attention, beside `rope` in those with full attention.
    fn sliding_rope(&self, kind: SlidingRope, rope: RopeSettings) -> Result<RopeSettings> {
        let base = |default| self.f32("rope.freq_base_swa", default);
        Ok(match kind {
            SlidingRope::OwnBase => RopeSettings {
                base: base(10_000.0)?,
                // llama.cpp multiplies YaRN's magnitude by what depends on the factor of the block's own scaling.
                magnitude: match rope.yarn {
                    Some(_) => rope.magnitude / (0.1 * rope.factor.ln() + 1.0),
                    None => rope.magnitude,
                },
                ..rope.unscaled()
            },
            SlidingRope::Scaled => RopeSettings {
                base: base(rope.base)?,
                // llama.cpp applies the factor here even where a scaling of type `none` switches it off.
                factor: self.rope_factor()?,
                ..rope
            },
            SlidingRope::Unscaled => RopeSettings {
                magnitude: 1.0,
                ..rope.unscaled()
            },
        })
    }

    fn flaw(&self, reason: &str) -> Error {
        Error::input(format_args!("{}: {reason}", self.gguf.path.display()))
    }
}
