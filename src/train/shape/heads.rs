//! The attention of the blocks, as a file gives it.

use cope_convert::gguf::Value;

use super::super::family::{Blocks, Mixers, ScoreDivisor};
use super::super::ops::attention::Heads;
use super::super::target::TargetModule;
use super::{SCORE_CAP, ShapeReader, Sliding};
use crate::Result;

/// The shape of a block's attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// The heads, and how they score keys.
    pub heads: Heads,
    /// Whether the queries' projection gives a gate of attention too.
    pub has_gate: bool,
    /// Where the keys and values come from.
    pub keys: KeySource,
}

/// The source of the keys and values of a block's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A projection of the keys, and another of the values.
    Own,
    /// One projection: the values are made of the keys before their norm.
    Single,
    /// The block of this number, an earlier one, whose keys and values the block uses too.
    Earlier(usize),
}

impl AttentionShape {
    /// Number of features of a row's queries.
    pub fn query_width(&self) -> usize {
        self.heads.n_head * self.heads.head_dim
    }

    /// Number of features of a row's keys, and of its values.
    pub fn key_width(&self) -> usize {
        self.heads.n_head_kv * self.heads.head_dim
    }

    /// Whether the block makes keys and values itself.
    pub fn has_own_keys(&self) -> bool {
        !matches!(self.keys, KeySource::Earlier(_))
    }

    /// `(out, in)` of a linear layer; `None` if this attention has no such layer.
    pub fn linear(&self, target: TargetModule, n_embd: usize) -> Option<(usize, usize)> {
        let (q, kv) = (self.query_width(), self.key_width());
        match (target, self.keys) {
            (TargetModule::Q, _) if self.has_gate => Some((2 * q, n_embd)),
            (TargetModule::Q, _) => Some((q, n_embd)),
            (TargetModule::K, KeySource::Own | KeySource::Single)
            | (TargetModule::V, KeySource::Own) => Some((kv, n_embd)),
            (TargetModule::O, _) => Some((n_embd, q)),
            _ => None,
        }
    }
}

impl ShapeReader<'_> {
    /// A count for each of the first `n_layer` blocks, which the file lists or gives once for all; `None` if it does not give
    /// any. In most families the blocks have the same.
    pub(super) fn of_each(&self, key: &str, n_layer: usize) -> Result<Option<Vec<usize>>> {
        let Some(mut counts) = self.counts(&self.key(key)) else {
            let has_one = self.has(key);
            let one = has_one.then(|| self.size(key)).transpose()?;
            return Ok(one.map(|count| vec![count; n_layer]));
        };
        counts.truncate(n_layer);
        let differ = counts.iter().any(|count| *count != counts[0]);
        if counts.len() < n_layer || differ && self.family.blocks == Blocks::Alike {
            return Err(self.flaw(&format!(
                "{} is {counts:?}, which is not supported in training",
                self.key(key)
            )));
        }
        Ok(Some(counts))
    }

    /// The heads of blocks with full attention; where the blocks differ in the number of key heads, the most of them.
    pub(super) fn heads(&self, n_layer: usize, n_embd: usize) -> Result<Heads> {
        let key = "attention.head_count";
        if matches!(self.gguf.get(&self.key(key)), Some(Value::Array(_))) {
            return Err(self.flaw(&format!(
                "a list of {} is not supported in training",
                self.key(key)
            )));
        }
        let n_head = self.size(key)?;
        let n_heads_kv = match self.family.mixers {
            Mixers::ShortConv => self.n_head_kv()?,
            _ => self.key_heads(n_layer, n_head)?,
        };
        let n_head_kv = n_heads_kv.into_iter().max().unwrap_or(0);
        self.check_shared(n_head, n_head_kv)?;
        let head_dim = self.size_or("attention.key_length", n_embd / n_head)?;
        self.check_lengths(head_dim, self.size_or("attention.value_length", head_dim)?)?;
        let divisor = match self.family.score_divisor {
            ScoreDivisor::WidthOf(n) if n == n_layer => (n_embd / n_head) as f32,
            ScoreDivisor::Head | ScoreDivisor::WidthOf(_) => head_dim as f32,
            ScoreDivisor::One => 1.0,
        };
        let scale = self.multiplier("attention.scale")?;
        Ok(Heads {
            n_head,
            n_head_kv,
            head_dim,
            scale: scale.unwrap_or_else(|| divisor.sqrt().recip()),
            soft_cap: self.soft_cap(SCORE_CAP, self.family.score_cap)?,
        })
    }

    pub(super) fn check_lengths(&self, keys: usize, values: usize) -> Result<()> {
        if keys == 0 || values != keys {
            return Err(self.flaw(
                "keys and values have different lengths, which is not supported in training",
            ));
        }
        Ok(())
    }

    fn check_shared(&self, n_head: usize, n_head_kv: usize) -> Result<()> {
        if n_head == 0 || n_head_kv == 0 || !n_head.is_multiple_of(n_head_kv) {
            return Err(self.flaw(&format!(
                "{n_head} heads cannot share {n_head_kv} key heads"
            )));
        }
        Ok(())
    }

    /// The key heads of each block.
    fn key_heads(&self, n_layer: usize, n_head: usize) -> Result<Vec<usize>> {
        let counts = self.of_each("attention.head_count_kv", n_layer)?;
        Ok(counts.unwrap_or_else(|| vec![n_head; n_layer]))
    }

    /// The attention of each block, with `heads` in blocks with full attention.
    pub(super) fn attention(
        &self,
        n_layer: usize,
        heads: Heads,
        sliding: Option<&Sliding>,
    ) -> Result<Vec<AttentionShape>> {
        let alike = AttentionShape {
            heads,
            has_gate: self.family.mixers == Mixers::DeltaNet,
            keys: KeySource::Own,
        };
        if self.family.blocks == Blocks::Alike {
            return Ok(vec![alike; n_layer]);
        }
        let key_heads = self.key_heads(n_layer, heads.n_head)?;
        let own = |layer: usize| {
            let n_head_kv = key_heads[layer];
            self.check_shared(heads.n_head, n_head_kv)?;
            let sliding = sliding.filter(|sliding| sliding.has(layer));
            let heads = Heads {
                n_head_kv,
                head_dim: sliding.map_or(heads.head_dim, |sliding| sliding.rope.head_dim),
                ..heads
            };
            let keys = self.own_keys(layer);
            Ok(AttentionShape {
                heads,
                keys,
                ..alike
            })
        };
        let mut blocks = (0..n_layer).map(own).collect::<Result<Vec<_>>>()?;
        self.share_keys(&mut blocks, sliding)?;
        Ok(blocks)
    }

    /// The source of the keys of a block that has its own.
    fn own_keys(&self, layer: usize) -> KeySource {
        let has = |name| {
            let tensor = self.gguf.tensor(&format!("blk.{layer}.{name}.weight"));
            tensor.is_some()
        };
        if has("attn_v") || has("attn_qkv") {
            KeySource::Own
        } else {
            KeySource::Single
        }
    }

    /// Gives the last blocks the keys of earlier ones, as the file says how many: of the last block before them, or of the
    /// one before that where attention slides.
    fn share_keys(&self, blocks: &mut [AttentionShape], sliding: Option<&Sliding>) -> Result<()> {
        let (key, n_layer) = ("attention.shared_kv_layers", blocks.len());
        let n_shared = self.size_or(key, 0)?;
        let first = n_layer.saturating_sub(n_shared);
        let slides = |layer: usize| sliding.is_some_and(|sliding| sliding.has(layer));
        for layer in first..n_layer {
            let source = first.checked_sub(if slides(layer) { 2 } else { 1 });
            let is_alike = |source: &usize| {
                slides(*source) == slides(layer)
                    && blocks[*source].heads.n_head_kv == blocks[layer].heads.n_head_kv
            };
            let Some(source) = source.filter(is_alike) else {
                return Err(self.flaw(&format!(
                    "{} is {n_shared}, and block {layer} has no block before these whose keys it could use",
                    self.key(key)
                )));
            };
            blocks[layer].keys = KeySource::Earlier(source);
        }
        Ok(())
    }
}
