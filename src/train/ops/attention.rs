//! Causal grouped-query attention over packed sequences: in each head, row by row,
//! `o = softmax(q Kᵀ / √head_dim) V` over the keys that the row may see.
//!
//! With `P` the probabilities and `dP = dO Vᵀ`: `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dQ = dS K / √head_dim`,
//! `dK = dSᵀ Q / √head_dim`, `dV = Pᵀ dO`. The backward pass computes `P` again rather than keep it.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::matrix::{Into, Matrix, MatrixMut, matmul};
use super::{contiguous, map_f32s};

/// Consecutive query rows of one sequence, and the rows of the keys that they see: all of `prefix`, and of `own` as
/// much as lies at or before the query, the last query seeing all of it.
///
/// A sequence on its own has an empty prefix. Several continuations of one prompt have the prompt's rows as theirs, so
/// that it is computed once. While decoding, the queries are the newest rows alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of keys and values that every query sees.
    pub prefix: Range<usize>,
    /// Rows of keys and values that are seen causally.
    pub own: Range<usize>,
}

/// The shape of the heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_head_kv` query heads in a row.
    pub n_head_kv: usize,
    /// Features of a head.
    pub head_dim: usize,
}

/// `q`: `[t, n_head · head_dim]`; `k`, `v`: `[t_kv, n_head_kv · head_dim]`; the result has `q`'s shape.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    segments: &Arc<Vec<Segment>>,
) -> Result<Tensor> {
    let op = Attention {
        heads,
        segments: Arc::clone(segments),
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// The forward pass on slices, for decoding over a cache; shapes as in [`attention`].
pub fn attend(q: &[f32], k: &[f32], v: &[f32], heads: Heads, segments: &[Segment]) -> Vec<f32> {
    let parts = each_head(segments, heads, |segment, head| {
        let part = Part::new(q, k, v, heads, segment, head);
        let p = part.probabilities();
        let mut out = vec![0.0; segment.queries.len() * heads.head_dim];
        part.weighted_sum(&p, &mut out);
        out
    });
    let mut out = vec![0.0; q.len()];
    for ((segment, head), part) in segment_heads(segments, heads).zip(parts) {
        add_rows(
            &mut out,
            &part,
            segment.queries.start,
            heads.n_head,
            head,
            heads.head_dim,
        );
    }
    out
}

struct Attention {
    heads: Heads,
    segments: Arc<Vec<Segment>>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "packed-attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (
            contiguous(s1, l1)?,
            contiguous(s2, l2)?,
            contiguous(s3, l3)?,
        );
        Ok((
            CpuStorage::F32(attend(q, k, v, self.heads, &self.segments)),
            l1.shape().clone(),
        ))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        d_out: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (heads, dim) = (self.heads, self.heads.head_dim);
        let parts = map_f32s([q, k, v, d_out], |[q, k, v, d_out]| {
            each_head(&self.segments, heads, |segment, head| {
                Part::new(q, k, v, heads, segment, head).gradients(d_out)
            })
        })?;
        let mut dq = vec![0.0; q.elem_count()];
        let mut dk = vec![0.0; k.elem_count()];
        let mut dv = vec![0.0; v.elem_count()];
        for ((segment, head), part) in segment_heads(&self.segments, heads).zip(parts) {
            let head_kv = head * heads.n_head_kv / heads.n_head;
            let (prefix_rows, prefix) = (segment.prefix.start, segment.prefix.len() * dim);
            add_rows(
                &mut dq,
                &part.dq,
                segment.queries.start,
                heads.n_head,
                head,
                dim,
            );
            for (total, part) in [(&mut dk, &part.dk), (&mut dv, &part.dv)] {
                add_rows(
                    total,
                    &part[..prefix],
                    prefix_rows,
                    heads.n_head_kv,
                    head_kv,
                    dim,
                );
                add_rows(
                    total,
                    &part[prefix..],
                    segment.own.start,
                    heads.n_head_kv,
                    head_kv,
                    dim,
                );
            }
        }
        let tensor = |data, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
        Ok((
            Some(tensor(dq, q)?),
            Some(tensor(dk, k)?),
            Some(tensor(dv, v)?),
        ))
    }
}

fn segment_heads(segments: &[Segment], heads: Heads) -> impl Iterator<Item = (&Segment, usize)> {
    segments
        .iter()
        .flat_map(move |segment| (0..heads.n_head).map(move |head| (segment, head)))
}

/// `f` of every segment and head, in parallel, the results in the order of [`segment_heads`].
fn each_head<T: Send>(
    segments: &[Segment],
    heads: Heads,
    f: impl Fn(&Segment, usize) -> T + Sync,
) -> Vec<T> {
    let tasks = segments.len() * heads.n_head;
    (0..tasks)
        .into_par_iter()
        .map(|task| f(&segments[task / heads.n_head], task % heads.n_head))
        .collect()
}

/// Adds `part`, `[rows, dim]`, to one head's columns of `total`, `[_, n_heads · dim]`, from row `first` on.
fn add_rows(
    total: &mut [f32],
    part: &[f32],
    first: usize,
    n_heads: usize,
    head: usize,
    dim: usize,
) {
    for (row, part) in total[first * n_heads * dim..]
        .chunks_exact_mut(n_heads * dim)
        .zip(part.chunks_exact(dim))
    {
        row[head * dim..(head + 1) * dim]
            .iter_mut()
            .zip(part)
            .for_each(|(total, part)| *total += part);
    }
}

/// One head of one segment. The keys are those of the prefix followed by the own ones, `n_keys` together.
struct Part<'a> {
    q: Matrix<'a>,
    keys: [Matrix<'a>; 2],
    values: [Matrix<'a>; 2],
    columns: [Range<usize>; 2],
    n_queries: usize,
    n_keys: usize,
    head: usize,
    heads: Heads,
    first_query: usize,
    scale: f32,
}

struct Gradients {
    /// `[n_queries, head_dim]`
    dq: Vec<f32>,
    /// `[n_keys, head_dim]`
    dk: Vec<f32>,
    /// `[n_keys, head_dim]`
    dv: Vec<f32>,
}

impl<'a> Part<'a> {
    fn new(
        q: &'a [f32],
        k: &'a [f32],
        v: &'a [f32],
        heads: Heads,
        segment: &Segment,
        head: usize,
    ) -> Self {
        let dim = heads.head_dim;
        let head_kv = head * heads.n_head_kv / heads.n_head;
        let view = |data: &'a [f32], rows: &Range<usize>, n_heads: usize, head: usize| {
            let first = ((rows.start * n_heads + head) * dim).min(data.len());
            Matrix::strided(&data[first..], rows.len(), dim, n_heads * dim)
        };
        let parts = [&segment.prefix, &segment.own];
        let (n_prefix, n_keys) = (
            segment.prefix.len(),
            segment.prefix.len() + segment.own.len(),
        );
        Self {
            q: view(q, &segment.queries, heads.n_head, head),
            keys: parts.map(|rows| view(k, rows, heads.n_head_kv, head_kv)),
            values: parts.map(|rows| view(v, rows, heads.n_head_kv, head_kv)),
            columns: [0..n_prefix, n_prefix..n_keys],
            n_queries: segment.queries.len(),
            n_keys,
            head,
            heads,
            first_query: segment.queries.start,
            scale: (dim as f32).sqrt().recip(),
        }
    }

    /// `[n_queries, n_keys]`, each row's sum 1.
    fn probabilities(&self) -> Vec<f32> {
        let mut p = vec![0.0; self.n_queries * self.n_keys];
        self.products(&mut p, self.scale, self.q, self.keys);
        for (i, row) in p.chunks_exact_mut(self.n_keys).enumerate() {
            let (seen, unseen) = row.split_at_mut(self.n_keys - self.n_queries + i + 1);
            let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            seen.iter_mut().for_each(|s| *s = (*s - max).exp());
            let norm = seen.iter().sum::<f32>().recip();
            seen.iter_mut().for_each(|s| *s *= norm);
            unseen.fill(0.0);
        }
        p
    }

    /// `out = scale · left · rightᵀ` for the two ranges of keys: `[n_queries, n_keys]`.
    fn products(&self, out: &mut [f32], scale: f32, left: Matrix, right: [Matrix; 2]) {
        for (columns, right) in self.columns.clone().into_iter().zip(right) {
            let mut out = MatrixMut::strided(
                &mut out[columns.start..],
                self.n_queries,
                columns.len(),
                self.n_keys,
            );
            matmul(&mut out, Into::Set, scale, left, right.t(), false);
        }
    }

    /// `out += p · V`: `[n_queries, head_dim]`.
    fn weighted_sum(&self, p: &[f32], out: &mut [f32]) {
        self.sum_over_keys(p, 1.0, self.values, out);
    }

    /// `out += scale · weights · rows` for `weights` `[n_queries, n_keys]`.
    fn sum_over_keys(&self, weights: &[f32], scale: f32, rows: [Matrix; 2], out: &mut [f32]) {
        let mut out = MatrixMut::new(out, self.n_queries, self.heads.head_dim);
        for (columns, rows) in self.columns.clone().into_iter().zip(rows) {
            let weights = Matrix::strided(
                &weights[columns.start..],
                self.n_queries,
                columns.len(),
                self.n_keys,
            );
            matmul(&mut out, Into::Add, scale, weights, rows, false);
        }
    }

    /// `d_out`: the gradient of the whole result, `[t, n_head · head_dim]`.
    fn gradients(&self, d_out: &[f32]) -> Gradients {
        let (dim, n_head) = (self.heads.head_dim, self.heads.n_head);
        let d_out = &d_out[(self.first_query * n_head + self.head) * dim..];
        let d_out = Matrix::strided(d_out, self.n_queries, dim, n_head * dim);
        let p = self.probabilities();
        let transposed = |weights| Matrix::new(weights, self.n_queries, self.n_keys).t();

        let mut dv = vec![0.0; self.n_keys * dim];
        matmul(
            &mut MatrixMut::new(&mut dv, self.n_keys, dim),
            Into::Set,
            1.0,
            transposed(&p),
            d_out,
            false,
        );

        let mut ds = vec![0.0; p.len()];
        self.products(&mut ds, 1.0, d_out, self.values);
        for (ds, p) in ds
            .chunks_exact_mut(self.n_keys)
            .zip(p.chunks_exact(self.n_keys))
        {
            let sum = super::dot(ds, p);
            ds.iter_mut()
                .zip(p)
                .for_each(|(ds, p)| *ds = p * (*ds - sum));
        }
        let mut dq = vec![0.0; self.n_queries * dim];
        self.sum_over_keys(&ds, self.scale, self.keys, &mut dq);
        let mut dk = vec![0.0; self.n_keys * dim];
        matmul(
            &mut MatrixMut::new(&mut dk, self.n_keys, dim),
            Into::Set,
            self.scale,
            transposed(&ds),
            self.q,
            false,
        );
        Gradients { dq, dk, dv }
    }
}
