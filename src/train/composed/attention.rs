//! Attention over packed sequences: [`super::super::ops::attention`] in candle's operations, segment by segment.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::super::ops::attention::{Heads, Mask};
use super::given;

/// Who sees what in one pass, by segment; the queries of the segments are all rows, in their order.
pub struct Seen(Vec<Segment>);

struct Segment {
    queries: Range<usize>,
    /// Rows of the keys.
    keys: Vec<Range<usize>>,
    /// `[queries, keys]`: 0 where a query sees a key, −∞ elsewhere.
    mask: Tensor,
}

impl Seen {
    /// On `device`.
    pub fn new(mask: Mask, device: &Device) -> Result<Self> {
        let segment = |segment: &super::super::ops::attention::Segment| {
            let (queries, keys) = (segment.queries.clone(), segment.keys.clone());
            let n_keys = keys.iter().map(Range::len).sum::<usize>();
            let mut seen = vec![f32::NEG_INFINITY; queries.len() * n_keys];
            for (i, row) in seen.chunks_exact_mut(n_keys).enumerate() {
                let end = n_keys - queries.len() + i + 1;
                let start = mask.window.map_or(0, |window| end.saturating_sub(window));
                row[start..end].fill(0.0);
            }
            let mask = Tensor::from_vec(seen, (queries.len(), n_keys), device)?;
            let keys = keys.into_iter().filter(|rows| !rows.is_empty()).collect();
            Ok(Segment {
                queries,
                keys,
                mask,
            })
        };
        Ok(Self(
            mask.segments.iter().map(segment).collect::<Result<_>>()?,
        ))
    }

    /// `q`: `[t, n_head, head_dim]`; `k`, `v`: `[t_kv, n_head_kv, head_dim]`. `[t, n_head · head_dim]`.
    pub fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
        let rows = |x: &Tensor, rows: &Range<usize>| x.narrow(0, rows.start, rows.len());
        let part = |segment: &Segment| {
            let of_keys = |x: &Tensor| {
                let parts = segment.keys.iter().map(|keys| rows(x, keys));
                Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
            };
            let q = rows(q, &segment.queries)?;
            attend(&q, &of_keys(k)?, &of_keys(v)?, heads, &segment.mask)
        };
        Tensor::cat(&self.0.iter().map(part).collect::<Result<Vec<_>>>()?, 0)
    }
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, mask: &Tensor) -> Result<Tensor> {
    let Heads {
        n_head,
        n_head_kv,
        head_dim,
    } = heads;
    let (t, n) = mask.dims2()?;
    // The queries of the heads that share a key head lie one after the other.
    let shared = n_head / n_head_kv * t;
    let q = q.transpose(0, 1)?.contiguous()?;
    let q = q.reshape((n_head_kv, shared, head_dim))?;
    let k = k.permute((1, 2, 0))?.contiguous()?;
    let v = v.transpose(0, 1)?.contiguous()?;
    let scores = (q.matmul(&k)? / (head_dim as f64).sqrt())?.reshape((n_head, t, n))?;
    let p = softmax(&scores, mask)?.reshape((n_head_kv, shared, n))?;
    let out = p.matmul(&v)?.reshape((n_head, t, head_dim))?;
    let out = out.transpose(0, 1)?.contiguous()?;
    out.reshape((t, n_head * head_dim))
}

/// Over the last dimension, with `mask` added.
fn softmax(scores: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let masked = scores.detach().broadcast_add(mask)?;
    let powers = masked.broadcast_sub(&masked.max_keepdim(2)?)?.exp()?;
    let p = powers.broadcast_div(&powers.sum_keepdim(2)?)?;
    let kept = p.clone();
    given(scores, &p, move |d| {
        let mean = (d * &kept)?.sum_keepdim(2)?;
        &kept * d.broadcast_sub(&mean)?
    })
}
