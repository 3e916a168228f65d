//! The KV cache on a device, for passes over only the newest tokens.

use std::ops::Range;

use candle_core::{DType, Device, Result as CandleResult, Tensor};

use super::super::block::recall::Memory;
use super::super::lora::Lora;
use super::super::ops::attention::Segment;
use super::{CandleModel, CandlePass};
use crate::Result;
use crate::llama::Token;

/// The keys and values of each block, `[rows, n_head_kv · head_dim]` each.
pub(in super::super) struct CandleCache {
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
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
        let width = shape.heads.n_head_kv * shape.heads.head_dim;
        let blocks = || -> CandleResult<Vec<Tensor>> {
            let block = |_| Tensor::zeros((rows, width), DType::F32, &self.device);
            (0..shape.n_layer).map(block).collect()
        };
        Ok(CandleCache {
            keys: blocks()?,
            values: blocks()?,
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
        let heads = self.stem.shape.heads;
        let (t, width) = (tokens.len(), heads.n_head_kv * heads.head_dim);
        let plans = self.plans(segments)?;
        let places: Vec<u32> = cache_rows.iter().map(|&row| row as u32).collect();
        let places = Tensor::from_vec(places, (t, 1), &self.device)?;
        let places = places.broadcast_as((t, width))?.contiguous()?;
        let CandleCache {
            keys,
            values,
            states,
            rows,
        } = cache;
        let by_head = |x: &Tensor| x.reshape((*rows, heads.n_head_kv, heads.head_dim));
        let pass = CandlePass {
            tokens,
            positions,
            segments,
            memory: Some((states, cache_rows)),
        };
        let x = self.run(pass, lora, |layer, q, k, v| {
            let (keys, values) = (&keys[layer], &values[layer]);
            keys.scatter_set(&places, &k.reshape((t, width))?.contiguous()?, 0)?;
            values.scatter_set(&places, &v.reshape((t, width))?.contiguous()?, 0)?;
            let plan = plans.get(self.stem.window(layer));
            plan.attend(q, &by_head(keys)?, &by_head(values)?, heads)
        })?;
        Ok(x.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }
}
