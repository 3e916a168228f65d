//! Attention over packed sequences: [`super::super::ops::attention`] in candle's operations.
//!
//! Starting an operation on a GPU takes long compared with the operation itself, so segments with similar numbers of
//! queries are padded to the same length and computed together.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::super::ops::attention::{Heads, Mask, Segment};
use super::cap::{slopes, soft_cap};
use super::custom_grad::custom_grad;

/// How one pass computes attention: the segments, padded and grouped by size.
pub struct AttentionPlan {
    groups: Vec<Group>,
    /// Index of each row's query among the queries of all groups, `[t]`.
    places: Tensor,
}

/// Segments that are padded to the same number of queries and of keys.
#[derive(Clone)]
struct Group {
    /// Rows of the queries, `[segments · queries]`.
    queries: Tensor,
    /// 1 for real queries and 0 for padding, `[segments · queries, 1]`.
    is_own: Tensor,
    /// Rows of the keys, `[segments · keys]`.
    keys: Tensor,
    /// 0 where a query sees a key and −∞ elsewhere, `[segments, 1, queries, keys]`.
    mask: Tensor,
}

impl AttentionPlan {
    /// A plan with its tensors on `device`. The segments' queries together are all rows, in their order.
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

    /// Attention of `q`, `[t, n_head, head_dim]`, over `k` and `v`, `[t_kv, n_head_kv, head_dim]` each. Returns
    /// `[t, n_head · head_dim]`, with gradients if one of them has some; `t_kv` must then be `t`.
    pub fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
        let values = [q, k, v].map(Tensor::detach);
        let passes = self.groups.iter();
        let passes = passes.map(|group| group.forward(&values, heads));
        let passes: Vec<GroupPass> = passes.collect::<Result<_>>()?;
        let outputs: Vec<_> = passes.iter().map(|pass| &pass.output).collect();
        let output = Tensor::cat(&outputs, 0)?.index_select(&self.places, 0)?;
        if ![q, k, v].iter().any(|x| x.track_op()) {
            return Ok(output);
        }
        let groups = self.groups.clone();
        custom_grad([&Tensor::cat(&[q, k, v], 1)?], &output, move |d| {
            let zeros = |x: &Tensor| x.flatten_from(1)?.zeros_like();
            let mut gradients = values.iter().map(zeros).collect::<Result<Vec<_>>>()?;
            for (group, pass) in groups.iter().zip(&passes) {
                group.backward(pass, d, heads, &mut gradients)?;
            }
            let t = d.dim(0)?;
            let gradient = Tensor::cat(&gradients, 1)?;
            Ok([gradient.reshape((t, (), heads.head_dim))?])
        })
    }
}

/// The values of a group's forward pass that its backward pass needs. Each product is over the queries of those heads
/// that share a key head, see [`Group::by_product`].
struct GroupPass {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// The probabilities.
    p: Tensor,
    /// The derivatives of the soft cap of the scores, if they are capped.
    slopes: Option<Tensor>,
    /// The result, `[segments · queries, n_head · head_dim]`.
    output: Tensor,
}

impl Group {
    fn new(
        segments: &[&Segment],
        n_queries: usize,
        window: Option<usize>,
        device: &Device,
    ) -> Result<Self> {
        let n_keys = longest(segments, Segment::n_keys);
        // Padding refers to row 0, which always exists.
        let mut queries = vec![0u32; segments.len() * n_queries];
        let mut is_own = vec![0f32; queries.len()];
        let mut keys = vec![0u32; segments.len() * n_keys];
        let mut mask = vec![f32::NEG_INFINITY; segments.len() * n_queries * n_keys];
        for (i, segment) in segments.iter().enumerate() {
            let own = &mut mask[i * n_queries * n_keys..(i + 1) * n_queries * n_keys];
            let own_queries = segment.queries.clone();
            is_own[i * n_queries..][..own_queries.len()].fill(1.0);
            let first = segment.n_keys() - own_queries.len();
            for (query, row) in own.chunks_exact_mut(n_keys).enumerate() {
                // A padding query sees the same keys as the last real one, since the softmax over no keys is undefined.
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
            is_own: Tensor::from_vec(is_own, (queries.len(), 1), device)?,
            queries: Tensor::new(queries, device)?,
            keys: Tensor::new(keys, device)?,
            mask: Tensor::from_vec(mask, shape, device)?,
        })
    }

    /// Attention of this group's queries; the arguments are those of [`AttentionPlan::attend`].
    fn forward(&self, [q, k, v]: &[Tensor; 3], heads: Heads) -> Result<GroupPass> {
        let Heads {
            n_head, n_head_kv, ..
        } = heads;
        let (n, _, t, t_kv) = self.mask.dims4()?;
        let q = self.by_product(&q.index_select(&self.queries, 0)?, heads)?;
        let k = self.by_product(&k.index_select(&self.keys, 0)?, heads)?;
        let v = self.by_product(&v.index_select(&self.keys, 0)?, heads)?;
        let mut scores = (q.matmul(&k.t()?)? * f64::from(heads.scale))?;
        if let Some(cap) = heads.soft_cap {
            scores = soft_cap(&scores, cap)?;
        }
        let slopes = heads.soft_cap.map(|cap| slopes(&scores, cap)).transpose()?;
        let scores = scores.reshape((n, n_head, t, t_kv))?;
        let masked = scores.broadcast_add(&self.mask)?;
        let powers = masked.broadcast_sub(&masked.max_keepdim(3)?)?.exp()?;
        let p = powers.broadcast_div(&powers.sum_keepdim(3)?)?;
        let p = p.reshape((n * n_head_kv, n_head / n_head_kv * t, t_kv))?;
        let output = self.by_row(&p.matmul(&v)?, n_head)?;
        Ok(GroupPass {
            q,
            k,
            v,
            p,
            slopes,
            output,
        })
    }

    /// Adds this group's share to `gradients`, those of `[q, k, v]` as `[rows, heads · head_dim]` each, from `d`, the
    /// gradient of the whole result, `[t, n_head · head_dim]`.
    fn backward(
        &self,
        pass: &GroupPass,
        d: &Tensor,
        heads: Heads,
        gradients: &mut [Tensor],
    ) -> Result<()> {
        let GroupPass {
            q, k, v, p, slopes, ..
        } = pass;
        let Heads {
            n_head,
            n_head_kv,
            head_dim,
            ..
        } = heads;
        let d = d.index_select(&self.queries, 0)?;
        let d = d
            .broadcast_mul(&self.is_own)?
            .reshape(((), n_head, head_dim))?;
        let d = self.by_product(&d, heads)?;
        let d_p = d.matmul(&v.t()?)?;
        let mean = (&d_p * p)?.sum_keepdim(2)?;
        let mut d_scores = ((p * d_p.broadcast_sub(&mean)?)? * f64::from(heads.scale))?;
        if let Some(slopes) = slopes {
            d_scores = (d_scores * slopes)?;
        }
        let parts = [
            (&self.queries, d_scores.matmul(k)?, n_head),
            (&self.keys, d_scores.t()?.matmul(q)?, n_head_kv),
            (&self.keys, p.t()?.matmul(&d)?, n_head_kv),
        ];
        for (gradient, (rows, part, n_heads)) in gradients.iter_mut().zip(parts) {
            *gradient = gradient.index_add(rows, &self.by_row(&part, n_heads)?, 0)?;
        }
        Ok(())
    }

    /// Brings together the rows of the heads that share a key head, so that one product computes them:
    /// `[segments · t, n_heads, head_dim]` → `[segments · n_head_kv, n_heads / n_head_kv · t, head_dim]`.
    fn by_product(&self, x: &Tensor, heads: Heads) -> Result<Tensor> {
        let (rows, n_heads, head_dim) = x.dims3()?;
        let n = self.mask.dim(0)?;
        let x = x
            .reshape((n, rows / n, n_heads, head_dim))?
            .transpose(1, 2)?;
        x.contiguous()?.reshape((n * heads.n_head_kv, (), head_dim))
    }

    /// The inverse of [`Self::by_product`], with the heads of a row side by side: → `[segments · t, n_heads ·
    /// head_dim]`.
    fn by_row(&self, x: &Tensor, n_heads: usize) -> Result<Tensor> {
        let (n, head_dim) = (self.mask.dim(0)?, x.dim(2)?);
        let x = x.reshape((n, n_heads, (), head_dim))?.transpose(1, 2)?;
        x.contiguous()?.reshape(((), n_heads * head_dim))
    }
}

/// The largest value of `len`.
fn longest(segments: &[&Segment], len: impl Fn(&Segment) -> usize) -> usize {
    segments
        .iter()
        .map(|segment| len(segment))
        .max()
        .unwrap_or_default()
}
