//! The mixers of the blocks, as a file gives them.

use cope_convert::gguf::{Array, Value};

use super::super::family::Mixers;
use super::super::ops::delta_core::channels;
use super::super::ops::delta_rule::DeltaHeads;
use super::super::target::TargetModule;
use super::{AttentionShape, Shape, ShapeReader};
use crate::Result;
use crate::llama::recurrent_layers;

/// The shape of a block's mixer.
#[derive(Clone, Copy, Debug)]
pub enum MixerShape {
    /// Attention.
    Attention(AttentionShape),
    /// A short convolution of as many features as the residual stream has, over this many rows.
    ShortConv {
        /// Number of rows that a row sees, itself among them.
        n_taps: usize,
    },
    /// A gated delta net.
    DeltaNet(DeltaShape),
}

/// The shape of a gated delta net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaShape {
    /// The heads.
    pub heads: DeltaHeads,
    /// Number of rows that the convolution of a row sees, itself among them.
    pub n_taps: usize,
}

impl DeltaShape {
    /// Number of values that a forward pass keeps of a row.
    pub fn kept(self) -> usize {
        let DeltaHeads { n_v, dim_v, .. } = self.heads;
        channels(self.heads) + 2 * n_v * dim_v + 2 * n_v
    }
}

impl Shape {
    /// Number of values that the backward pass of a mixer holds of a row for a while, beyond those of attention.
    pub fn temporary_of_mixers(&self) -> usize {
        let of_mixer = |mixer: &MixerShape| match *mixer {
            MixerShape::Attention(_) => 0,
            MixerShape::ShortConv { .. } => 5 * self.n_embd,
            MixerShape::DeltaNet(shape) => 5 * channels(shape.heads),
        };
        self.mixers.iter().map(of_mixer).max().unwrap_or(0)
    }

    /// Number of values of the states of all mixers after a row.
    pub fn states(&self) -> usize {
        let of_mixer = |mixer: &MixerShape| match *mixer {
            MixerShape::Attention(_) => 0,
            MixerShape::ShortConv { n_taps } => (n_taps - 1) * self.n_embd,
            MixerShape::DeltaNet(DeltaShape { heads, n_taps }) => {
                heads.state_len() + (n_taps - 1) * channels(heads)
            }
        };
        self.mixers.iter().map(of_mixer).sum()
    }
}

impl MixerShape {
    /// `(out, in)` of a linear layer; `None` if the mixer has no such layer.
    pub fn linear(&self, target: TargetModule, n_embd: usize) -> Option<(usize, usize)> {
        match self {
            Self::Attention(attention) => attention.linear(target, n_embd),
            Self::ShortConv { .. } => match target {
                TargetModule::ConvInProj => Some((3 * n_embd, n_embd)),
                TargetModule::ConvOutProj => Some((n_embd, n_embd)),
                _ => None,
            },
            Self::DeltaNet(DeltaShape { heads, .. }) => {
                let width = heads.n_v * heads.dim_v;
                match target {
                    TargetModule::InProjQkv => Some((channels(*heads), n_embd)),
                    TargetModule::InProjZ => Some((width, n_embd)),
                    TargetModule::InProjA | TargetModule::InProjB => Some((heads.n_v, n_embd)),
                    TargetModule::OutProj => Some((n_embd, width)),
                    _ => None,
                }
            }
        }
    }

    /// The output projection.
    pub fn output(&self) -> TargetModule {
        match self {
            Self::Attention(_) => TargetModule::O,
            Self::ShortConv { .. } => TargetModule::ConvOutProj,
            Self::DeltaNet(_) => TargetModule::OutProj,
        }
    }
}

impl ShapeReader<'_> {
    /// The counts that the file lists by `key`, of which those below 0 are 0; `None` if it has no such list.
    pub(super) fn counts(&self, key: &str) -> Option<Vec<usize>> {
        match self.gguf.get(key)? {
            Value::Array(Array::U32(counts)) => Some(counts.iter().map(|&n| n as usize).collect()),
            Value::Array(Array::I32(counts)) => {
                Some(counts.iter().map(|&n| n.max(0) as usize).collect())
            }
            _ => None,
        }
    }

    /// The heads of keys of each block, in families in which some have none.
    pub(super) fn n_head_kv(&self) -> Result<Vec<usize>> {
        let key = self.key("attention.head_count_kv");
        let counts = self
            .counts(&key)
            .ok_or_else(|| self.flaw(&format!("{key} is no list with a count for each block")))?;
        let most = counts.iter().copied().max().unwrap_or(0);
        if counts.iter().any(|&count| count != 0 && count != most) {
            return Err(self.flaw(
                "its blocks differ in the number of key heads, which is not supported in training",
            ));
        }
        Ok(counts)
    }

    /// Number of blocks that predict further tokens.
    pub(super) fn n_further(&self, n_blocks: usize) -> Result<usize> {
        let key = "nextn_predict_layers";
        if self.family.mixers != Mixers::DeltaNet {
            return Ok(0);
        }
        match self.size_or(key, 0)? {
            n if n < n_blocks => Ok(n),
            n => Err(self.flaw(&format!("{} is {n}, of {n_blocks} blocks", self.key(key)))),
        }
    }

    /// The mixers of the `n_layer` first of `n_blocks` blocks, of which some have these shapes of attention, and the others
    /// other mixers.
    pub(super) fn mixers(
        &self,
        n_blocks: usize,
        attention: Vec<AttentionShape>,
    ) -> Result<Vec<MixerShape>> {
        let others = self.other_mixers(n_blocks)?.into_iter();
        let mixer =
            |(attention, other): (_, Option<_>)| other.unwrap_or(MixerShape::Attention(attention));
        Ok(attention.into_iter().zip(others).map(mixer).collect())
    }

    /// For each block, its mixer if that is not attention.
    fn other_mixers(&self, n_blocks: usize) -> Result<Vec<Option<MixerShape>>> {
        match self.family.mixers {
            Mixers::Attention => Ok(vec![None; n_blocks]),
            Mixers::ShortConv => {
                let (counts, n_taps) = (self.n_head_kv()?, self.size("shortconv.l_cache")?);
                if counts.len() < n_blocks || n_taps < 2 {
                    return Err(self.flaw("its short convolutions have no sound shape"));
                }
                let mixer = |&count: &usize| match count {
                    0 => Some(MixerShape::ShortConv { n_taps }),
                    _ => None,
                };
                Ok(counts.iter().take(n_blocks).map(mixer).collect())
            }
            Mixers::DeltaNet => {
                let shape = self.delta_shape()?;
                self.check_sections()?;
                let mixer =
                    |is_recurrent: bool| is_recurrent.then_some(MixerShape::DeltaNet(shape));
                let architecture = self.family.architecture;
                let layers = recurrent_layers(self.gguf, architecture, n_blocks);
                Ok(layers.into_iter().map(mixer).collect())
            }
        }
    }

    /// Refuses sections of the rotary embedding that leave out pairs: llama.cpp rotates these by another position, which is
    /// 0 in texts. The sections of all other pairs have the same position in texts.
    fn check_sections(&self) -> Result<()> {
        let key = self.key("rope.dimension_sections");
        let sections = self.counts(&key).unwrap_or_default();
        let total: usize = sections.iter().sum();
        let count = self.key("rope.dimension_count");
        let n_rot = self.size("rope.dimension_count").map_err(|_| {
            self.flaw(&format!(
                "{count} is missing, which is not supported in training"
            ))
        })?;
        let is_covered = |pair: usize| {
            let sector = pair % total.max(1);
            sections.len() == 4 && sector < 3 * sections[sector % 3]
        };
        if (0..n_rot / 2).all(is_covered) {
            Ok(())
        } else {
            Err(self.flaw(&format!(
                "{key} are {sections:?}, which is not supported in training"
            )))
        }
    }

    fn delta_shape(&self) -> Result<DeltaShape> {
        let (n_k, n_v) = (
            self.size("ssm.group_count")?,
            self.size("ssm.time_step_rank")?,
        );
        let (dim, inner) = (self.size("ssm.state_size")?, self.size("ssm.inner_size")?);
        let n_taps = self.size("ssm.conv_kernel")?;
        let is_sound = n_k > 0 && n_v % n_k == 0 && n_v > 0 && dim > 0 && inner == n_v * dim;
        if !is_sound || n_taps < 2 {
            return Err(self.flaw(&format!(
                "a delta net of {n_k} key heads and {n_v} value heads with {dim} features each, {inner} in all, and {n_taps} taps is not supported in training"
            )));
        }
        let heads = DeltaHeads {
            n_k,
            n_v,
            dim_k: dim,
            dim_v: dim,
        };
        Ok(DeltaShape { heads, n_taps })
    }
}
