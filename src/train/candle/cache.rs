//! The KV cache on a device, for passes over only the newest tokens.

use std::ops::Range;

use candle_core::{DType, Device, Result as CandleResult, Tensor, bail};

use super::super::block::recall::Memory;
use super::super::lora::Lora;
use super::super::ops::attention::Segment;
use super::{CandleModel, CandlePass};
use crate::Result;
use crate::llama::Token;

/// The keys and values of each block that makes some, `[rows, n_head_kv · head_dim]` each, and the states of others.
pub(in super::super) struct CandleCache {
    keys: Vec<Option<(Tensor, Tensor)>>,
    /// The states of the mixers that have some.
    states: Vec<Memory>,
    rows: usize,
}

impl CandleCache {
    /// Frees the states after `rows`, from which no sequence will go on.
    pub fn forget(&mut self, rows: &Range<usize>) {
        (self.states.iter_mut()).for_each(|memory| memory.forget(rows.clone()));
    }
}

impl CandleModel {
    /// An empty cache of `rows` rows.
    pub fn cache(&self, rows: usize) -> CandleResult<CandleCache> {
        let shape = &self.stem.shape;
        let zeros = |width| Tensor::zeros((rows, width), DType::F32, &self.device);
        let keys = |layer| match shape.attention(layer) {
            Some(attention) if attention.has_own_keys() => {
                let width = attention.key_width();
                Ok(Some((zeros(width)?, zeros(width)?)))
            }
            _ => Ok(None),
        };
        Ok(CandleCache {
            keys: (0..shape.n_layer).map(keys).collect::<CandleResult<_>>()?,
            states: (0..shape.n_layer).map(|_| Memory::states()).collect(),
            rows,
        })
    }

    /// Runs tokens, whose keys and values are written to `cache_rows`. Returns `[t, n_embd]`, before the last norm.
    pub fn run_cached(
        &self,
        lora: Option<&Lora>,
        (tokens, positions): (&[Token], &[usize]),
        (cache, cache_rows): (&mut CandleCache, &[usize]),
        segments: &[Segment],
    ) -> Result<Vec<f32>> {
        let t = tokens.len();
        let plans = self.plans(segments)?;
        let places: Vec<u32> = cache_rows.iter().map(|&row| row as u32).collect();
        let places = Tensor::from_vec(places, (t, 1), &self.device)?;
        let store = |all: &Tensor, new: &Tensor| {
            let new = new.flatten_from(1)?.contiguous()?;
            let places = places.broadcast_as(new.shape())?.contiguous()?;
            all.scatter_set(&places, &new, 0)
        };
        let CandleCache { keys, states, rows } = cache;
        let pass = CandlePass {
            tokens,
            positions,
            segments,
            memory: Some((states, cache_rows)),
        };
        let x = self.run(pass, lora, |layer, attended| {
            let heads = attended.heads;
            let source = self.stem.shape.earlier_keys(layer).unwrap_or(layer);
            let Some((all_keys, all_values)) = &keys[source] else {
                bail!("block {source} has no keys")
            };
            if let Some((k, v)) = &attended.keys {
                store(all_keys, k)?;
                store(all_values, v)?;
            }
            let by_head = |x: &Tensor| x.reshape((*rows, heads.n_head_kv, heads.head_dim));
            let plan = plans.get(self.stem.window(layer));
            plan.attend(
                attended.q,
                &by_head(all_keys)?,
                &by_head(all_values)?,
                heads,
            )
        })?;
        Ok(x.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }
}
