//! Attention over packed sequences: [`super::super::ops::attention`] in candle's operations.
//!
//! A GPU is slow to begin an operation and quick to do it, so segments of about as many queries are filled up to the same
//! length and attended together.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::super::ops::attention::{Heads, Mask, Segment};
use super::given;

/// Who sees what in one pass.
pub struct Seen {
    groups: Vec<Group>,
    /// `[t]`: where each row is among those of the groups.
    places: Tensor,
}

/// Segments with the same number of queries, and of keys, after filling up.
struct Group {
    /// Rows of the queries, `[segments · queries]`.
    queries: Tensor,
    /// Rows of the keys, `[segments · keys]`.
    keys: Tensor,
    /// `[segments, 1, queries, keys]`: 0 where a query sees a key, −∞ elsewhere.
    mask: Tensor,
}

impl Seen {
    /// On `device`. The queries of the segments are all rows, in their order.
    pub fn new(mask: Mask, device: &Device) -> Result<Self> {
        let mut by_size: BTreeMap<usize, Vec<&Segment>> = BTreeMap::new();
        for segment in mask.segments {
            let size = segment.queries.len().next_power_of_two();
            by_size.entry(size).or_default().push(segment);
        }
        let n_rows = mask.segments.iter().map(|segment| segment.queries.len());
        let mut places = vec![0u32; n_rows.sum()];
        let mut n_before = 0;
        let group = |segments: Vec<&Segment>| {
            let n_queries = longest(&segments, |segment| segment.queries.len());
            for segment in &segments {
                for (place, row) in (n_before..).zip(segment.queries.clone()) {
                    places[row] = place;
                }
                n_before += n_queries as u32;
            }
            Group::new(&segments, n_queries, mask.window, device)
        };
        Ok(Self {
            groups: by_size.into_values().map(group).collect::<Result<_>>()?,
            places: Tensor::new(places, device)?,
        })
    }

    /// `q`: `[t, n_head, head_dim]`; `k`, `v`: `[t_kv, n_head_kv, head_dim]`. `[t, n_head · head_dim]`.
    pub fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
        let parts = self.groups.iter().map(|group| group.attend(q, k, v, heads));
        let parts: Vec<_> = parts.collect::<Result<_>>()?;
        Tensor::cat(&parts, 0)?.index_select(&self.places, 0)
    }
}

impl Group {
    fn new(
        segments: &[&Segment],
        n_queries: usize,
        window: Option<usize>,
        device: &Device,
    ) -> Result<Self> {
        let n_keys = longest(segments, |segment| segment.n_keys());
        // What fills up is row 0, which is there.
        let mut queries = vec![0u32; segments.len() * n_queries];
        let mut keys = vec![0u32; segments.len() * n_keys];
        let mut mask = vec![f32::NEG_INFINITY; segments.len() * n_queries * n_keys];
        for (i, segment) in segments.iter().enumerate() {
            let own = &mut mask[i * n_queries * n_keys..(i + 1) * n_queries * n_keys];
            let own_queries = segment.queries.clone();
            let first = segment.n_keys() - own_queries.len();
            for (query, row) in own.chunks_exact_mut(n_keys).enumerate() {
                // A query that fills up sees as much as the last, since of nothing there is no softmax.
                let end = first + (query + 1).min(own_queries.len());
                let start = window.map_or(0, |window| end.saturating_sub(window));
                row[start..end].fill(0.0);
            }
            for (place, row) in queries[i * n_queries..].iter_mut().zip(own_queries) {
                *place = row as u32;
            }
            let own_keys = segment.keys.iter().cloned().flatten();
            for (place, row) in keys[i * n_keys..].iter_mut().zip(own_keys) {
                *place = row as u32;
            }
        }
        let shape = (segments.len(), 1, n_queries, n_keys);
        Ok(Self {
            queries: Tensor::new(queries, device)?,
            keys: Tensor::new(keys, device)?,
            mask: Tensor::from_vec(mask, shape, device)?,
        })
    }

    /// As of [`Seen::attend`], for the queries of this group.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
        let Heads {
            n_head,
            n_head_kv,
            head_dim,
        } = heads;
        let (n, _, t, t_kv) = self.mask.dims4()?;
        let by_segment = |x: &Tensor, rows: &Tensor, t: usize, n_head: usize| {
            x.index_select(rows, 0)?.reshape((n, t, n_head, head_dim))
        };
        // The queries of the heads that share a key head lie one after the other.
        let (products, shared) = (n * n_head_kv, n_head / n_head_kv * t);
        let q = by_segment(q, &self.queries, t, n_head)?.transpose(1, 2)?;
        let q = q.contiguous()?.reshape((products, shared, head_dim))?;
        let k = by_segment(k, &self.keys, t_kv, n_head_kv)?.permute((0, 2, 3, 1))?;
        let k = k.contiguous()?.reshape((products, head_dim, t_kv))?;
        let v = by_segment(v, &self.keys, t_kv, n_head_kv)?.transpose(1, 2)?;
        let v = v.contiguous()?.reshape((products, t_kv, head_dim))?;
        let scores = (q.matmul(&k)? / (head_dim as f64).sqrt())?;
        let p = softmax(&scores.reshape((n, n_head, t, t_kv))?, &self.mask)?;
        let out = p.reshape((products, shared, t_kv))?.matmul(&v)?;
        let out = out.reshape((n, n_head, t, head_dim))?.transpose(1, 2)?;
        out.contiguous()?.reshape((n * t, n_head * head_dim))
    }
}

fn longest(segments: &[&Segment], len: impl Fn(&Segment) -> usize) -> usize {
    segments
        .iter()
        .map(|segment| len(segment))
        .max()
        .unwrap_or_default()
}

/// Over the last dimension, with `mask` added.
fn softmax(scores: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let masked = scores.detach().broadcast_add(mask)?;
    let powers = masked.broadcast_sub(&masked.max_keepdim(3)?)?.exp()?;
    let p = powers.broadcast_div(&powers.sum_keepdim(3)?)?;
    let kept = p.clone();
    given(scores, &p, move |d| {
        let mean = (d * &kept)?.sum_keepdim(3)?;
        &kept * d.broadcast_sub(&mean)?
    })
}
