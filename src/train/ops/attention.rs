//! Causal grouped-query attention (Ainslie et al. 2023) over packed sequences, full or sliding: in each head and for
//! each row, `o = softmax(S) V` with the scores `S = cap(scale · q Kᵀ)` over the keys that the row may see. The scale is
//! `1 / √head_dim` in most models, and few models have a cap.
//!
//! The gradients, with `P` the probabilities and `dP = dO Vᵀ`: `dS = P ∘ (dP − rowsum(P ∘ dP)) ∘ cap′`, `dQ = scale ·
//! dS K`, `dK = scale · dSᵀ Q`, `dV = Pᵀ dO`. The backward pass recomputes `S` and `P` instead of keeping them.

use std::ops::Range;

use rayon::prelude::*;

use super::matrix::{Into, Matrix, MatrixMut, Workers, matmul};
use super::soft_cap::SoftCap;
use super::vector::{dot, softmax};

/// Queries of one sequence that are computed together: enough for an efficient matrix product, few enough to keep the
/// scores of a long sequence small and to skip the keys after them.
pub(in super::super) const QUERIES: usize = 128;

/// Consecutive query rows of one sequence, and the rows of their keys in the order of their positions. A query sees the
/// keys at its own position and before it; the last query sees all of them.
///
/// The keys of a sequence that stands alone are its own rows. Several continuations of one prompt have the prompt's
/// rows before theirs, so that the prompt is computed once. While sampling, the queries are only the newest rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of keys and values; the queries' own are the last.
    pub keys: Vec<Range<usize>>,
}

impl Segment {
    /// Number of keys that the last query sees.
    pub fn n_keys(&self) -> usize {
        self.keys.iter().map(Range::len).sum()
    }
}

/// The shape of the heads, and how they score keys.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_head_kv` query heads in a row.
    pub n_head_kv: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Soft cap of the scores.
    pub soft_cap: Option<SoftCap>,
}

impl Heads {
    /// The key head that serves a query head.
    fn key_head(self, head: usize) -> usize {
        head * self.n_head_kv / self.n_head
    }
}

/// The attention mask: which queries see which keys.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    /// The sequences.
    pub segments: &'a [Segment],
    /// Sliding attention: a query sees at most this many keys, the newest ones, its own among them. `None` for full
    /// attention.
    pub window: Option<usize>,
}

/// Attention of `q`, `[t, n_head · head_dim]`, over `k` and `v`, `[t_kv, n_head_kv · head_dim]` each. The result has
/// `q`'s shape.
pub fn attend(q: &[f32], k: &[f32], v: &[f32], heads: Heads, mask: Mask) -> Vec<f32> {
    let tasks = HeadTask::all(mask.segments, heads);
    let parts: Vec<_> = tasks
        .par_iter()
        .map(|task| {
            let part = HeadPart::new(q, k, v, heads, task, mask.window);
            let mut out = vec![0.0; part.n_queries * heads.head_dim];
            let p = part.probabilities(part.scores());
            part.sum_over_keys(&p, 1.0, |piece| piece.values, &mut out);
            out
        })
        .collect();
    let mut out = vec![0.0; q.len()];
    let (n_head, dim) = (heads.n_head, heads.head_dim);
    for (task, part) in tasks.iter().zip(parts) {
        add_rows(&mut out, &part, task.first_query(), n_head, task.head, dim);
    }
    out
}

/// The gradients of `q`, `k` and `v`, in their shapes, from `d_out`, that of the result.
pub fn attend_backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: Heads,
    mask: Mask,
    d_out: &[f32],
) -> [Vec<f32>; 3] {
    let dim = heads.head_dim;
    let tasks = HeadTask::all(mask.segments, heads);
    let parts: Vec<_> = tasks
        .par_iter()
        .map(|task| {
            let part = HeadPart::new(q, k, v, heads, task, mask.window);
            let gradients = part.gradients(d_out);
            (part, gradients)
        })
        .collect();
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| vec![0.0; x.len()]);
    for (task, (part, gradients)) in tasks.iter().zip(parts) {
        let (first, head_kv) = (task.first_query(), heads.key_head(task.head));
        add_rows(&mut dq, &gradients.dq, first, heads.n_head, task.head, dim);
        for piece in &part.pieces {
            let values = piece.columns.start * dim..piece.columns.end * dim;
            for (total, part) in [(&mut dk, &gradients.dk), (&mut dv, &gradients.dv)] {
                let part = &part[values.clone()];
                add_rows(total, part, piece.first_row, heads.n_head_kv, head_kv, dim);
            }
        }
    }
    [dq, dk, dv]
}

/// A unit of parallel work: one head of some queries of one segment.
struct HeadTask<'a> {
    segment: &'a Segment,
    /// Indices into the segment's queries.
    queries: Range<usize>,
    head: usize,
}

impl<'a> HeadTask<'a> {
    fn all(segments: &'a [Segment], heads: Heads) -> Vec<Self> {
        let mut tasks = Vec::new();
        for segment in segments {
            for start in (0..segment.queries.len()).step_by(QUERIES) {
                let queries = start..segment.queries.len().min(start + QUERIES);
                tasks.extend((0..heads.n_head).map(|head| Self {
                    segment,
                    queries: queries.clone(),
                    head,
                }));
            }
        }
        tasks
    }

    fn first_query(&self) -> usize {
        self.segment.queries.start + self.queries.start
    }
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

/// The operands of one task: its queries, and the `n_keys` keys that any of them sees.
struct HeadPart<'a> {
    q: Matrix<'a>,
    pieces: Vec<KeyRun<'a>>,
    n_queries: usize,
    n_keys: usize,
    /// Number of keys up to and including the first query's own.
    first_seen: usize,
    window: Option<usize>,
    heads: Heads,
    head: usize,
    first_query: usize,
}

/// Keys whose rows are consecutive.
struct KeyRun<'a> {
    /// Their indices among the part's keys.
    columns: Range<usize>,
    first_row: usize,
    keys: Matrix<'a>,
    values: Matrix<'a>,
}

struct HeadGradients {
    /// `[n_queries, head_dim]`
    dq: Vec<f32>,
    /// `[n_keys, head_dim]`
    dk: Vec<f32>,
    /// `[n_keys, head_dim]`
    dv: Vec<f32>,
}

impl<'a> HeadPart<'a> {
    fn new(
        q: &'a [f32],
        k: &'a [f32],
        v: &'a [f32],
        heads: Heads,
        task: &HeadTask,
        window: Option<usize>,
    ) -> Self {
        let dim = heads.head_dim;
        let view = |data: &'a [f32], first: usize, rows: usize, n_heads: usize, head: usize| {
            let first = ((first * n_heads + head) * dim).min(data.len());
            Matrix::strided(&data[first..], rows, dim, n_heads * dim)
        };
        // Positions are indices into all of the segment's keys.
        let own = task.segment.n_keys() - task.segment.queries.len();
        let (first, end) = (own + task.queries.start, own + task.queries.end);
        let oldest = window.map_or(0, |window| (first + 1).saturating_sub(window));

        let mut pieces = Vec::with_capacity(task.segment.keys.len());
        let mut position = 0;
        let head_kv = heads.key_head(task.head);
        for rows in &task.segment.keys {
            let (from, to) = (oldest.max(position), end.min(position + rows.len()));
            if from < to {
                let first_row = rows.start + from - position;
                pieces.push(KeyRun {
                    columns: from - oldest..to - oldest,
                    first_row,
                    keys: view(k, first_row, to - from, heads.n_head_kv, head_kv),
                    values: view(v, first_row, to - from, heads.n_head_kv, head_kv),
                });
            }
            position += rows.len();
        }
        let (first_query, n_queries) = (task.first_query(), task.queries.len());
        Self {
            q: view(q, first_query, n_queries, heads.n_head, task.head),
            pieces,
            n_queries,
            n_keys: end - oldest,
            first_seen: first + 1 - oldest,
            window,
            heads,
            head: task.head,
            first_query,
        }
    }

    /// `S`, `[n_queries, n_keys]`.
    fn scores(&self) -> Vec<f32> {
        let mut scores = vec![0.0; self.n_queries * self.n_keys];
        self.products(&mut scores, self.heads.scale, self.q, |piece| piece.keys);
        if let Some(cap) = self.heads.soft_cap {
            cap.forward(&mut scores);
        }
        scores
    }

    /// `P`, `[n_queries, n_keys]`, from the scores; each row sums to 1.
    fn probabilities(&self, scores: Vec<f32>) -> Vec<f32> {
        let mut p = scores;
        for (i, row) in p.chunks_exact_mut(self.n_keys).enumerate() {
            let end = self.first_seen + i;
            let start = self.window.map_or(0, |window| end.saturating_sub(window));
            row[..start].fill(0.0);
            row[end..].fill(0.0);
            let seen = &mut row[start..end];
            softmax(seen);
        }
        p
    }

    /// `out = scale · left · rightᵀ`, `[n_queries, n_keys]`, with `right` the keys or the values of each run.
    fn products<'p>(
        &'p self,
        out: &mut [f32],
        scale: f32,
        left: Matrix,
        right: impl Fn(&'p KeyRun<'a>) -> Matrix<'p>,
    ) {
        for piece in &self.pieces {
            let mut out = MatrixMut::strided(
                &mut out[piece.columns.start..],
                self.n_queries,
                piece.columns.len(),
                self.n_keys,
            );
            matmul(
                &mut out,
                Into::Set,
                scale,
                left,
                right(piece).t(),
                Workers::One,
            );
        }
    }

    /// `out += scale · weights · rows`: `[n_queries, n_keys] · [n_keys, head_dim] → [n_queries, head_dim]`, with `rows`
    /// the keys or the values of each run.
    fn sum_over_keys<'p>(
        &'p self,
        weights: &[f32],
        scale: f32,
        rows: impl Fn(&'p KeyRun<'a>) -> Matrix<'p>,
        out: &mut [f32],
    ) {
        let mut out = MatrixMut::new(out, self.n_queries, self.heads.head_dim);
        for piece in &self.pieces {
            let weights = Matrix::strided(
                &weights[piece.columns.start..],
                self.n_queries,
                piece.columns.len(),
                self.n_keys,
            );
            matmul(
                &mut out,
                Into::Add,
                scale,
                weights,
                rows(piece),
                Workers::One,
            );
        }
    }

    /// This part's gradients, from `d_out`, the gradient of the whole result, `[t, n_head · head_dim]`.
    fn gradients(&self, d_out: &[f32]) -> HeadGradients {
        let (dim, n_head) = (self.heads.head_dim, self.heads.n_head);
        let d_out = &d_out[(self.first_query * n_head + self.head) * dim..];
        let d_out = Matrix::strided(d_out, self.n_queries, dim, n_head * dim);
        let scores = self.scores();
        let slopes = self.heads.soft_cap.map(|cap| cap.slopes(&scores));
        let p = self.probabilities(scores);
        // `weightsᵀ · rows`: `[n_keys, head_dim]`.
        let by_key = |weights: &[f32], scale: f32, rows: Matrix| {
            let mut out = vec![0.0; self.n_keys * dim];
            let weights = Matrix::new(weights, self.n_queries, self.n_keys).t();
            let mut view = MatrixMut::new(&mut out, self.n_keys, dim);
            matmul(&mut view, Into::Set, scale, weights, rows, Workers::One);
            out
        };
        let dv = by_key(&p, 1.0, d_out);
        let mut ds = vec![0.0; p.len()];
        self.products(&mut ds, 1.0, d_out, |piece| piece.values);
        for (ds, p) in ds
            .chunks_exact_mut(self.n_keys)
            .zip(p.chunks_exact(self.n_keys))
        {
            let sum = dot(ds, p);
            ds.iter_mut()
                .zip(p)
                .for_each(|(ds, p)| *ds = p * (*ds - sum));
        }
        if let Some(slopes) = slopes {
            ds.iter_mut()
                .zip(slopes)
                .for_each(|(ds, slope)| *ds *= slope);
        }
        let (scale, mut dq) = (self.heads.scale, vec![0.0; self.n_queries * dim]);
        self.sum_over_keys(&ds, scale, |piece| piece.keys, &mut dq);
        let dk = by_key(&ds, scale, self.q);
        HeadGradients { dq, dk, dv }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    const HEADS: Heads = Heads {
        n_head: 4,
        n_head_kv: 2,
        head_dim: 6,
        scale: 0.4,
        soft_cap: None,
    };

    /// A prompt of five rows, two continuations of it, and a sequence that stands alone.
    fn segments() -> Vec<Segment> {
        let segment = |before: Range<usize>, queries: Range<usize>| Segment {
            keys: vec![before, queries.clone()],
            queries,
        };
        vec![
            segment(0..0, 0..5),
            segment(0..5, 5..8),
            segment(0..5, 8..12),
            segment(0..0, 12..15),
        ]
    }

    /// Attention computed row by row, straight from the formula.
    fn naive(q: &[f32], k: &[f32], v: &[f32], heads: Heads, mask: Mask) -> Vec<f32> {
        let (d, mut out) = (HEADS.head_dim, vec![0.0; q.len()]);
        for segment in mask.segments {
            let keys: Vec<usize> = segment.keys.iter().cloned().flatten().collect();
            for (i, row) in segment.queries.clone().enumerate() {
                let end = keys.len() - segment.queries.len() + i + 1;
                let start = mask.window.map_or(0, |window| end.saturating_sub(window));
                for head in 0..HEADS.n_head {
                    let at = |row: usize, n: usize, head: usize| (row * n + head) * d;
                    let q = &q[at(row, HEADS.n_head, head)..][..d];
                    let key = |&row: &usize| at(row, HEADS.n_head_kv, HEADS.key_head(head));
                    let seen = &keys[start..end];
                    let score = |row| {
                        let score = heads.scale * dot(q, &k[key(row)..][..d]);
                        heads
                            .soft_cap
                            .map_or(score, |SoftCap(c)| c * (score / c).tanh())
                    };
                    let mut p: Vec<f32> = seen.iter().map(score).collect();
                    softmax(&mut p);
                    let out = &mut out[at(row, HEADS.n_head, head)..][..d];
                    for (p, seen) in p.iter().zip(seen) {
                        let v = &v[key(seen)..][..d];
                        out.iter_mut().zip(v).for_each(|(out, v)| *out += p * v);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn attention_agrees_with_the_formula_and_its_gradients_with_finite_differences() {
        let (q, k, v) = (values(15 * 24, 1), values(15 * 12, 2), values(15 * 12, 3));
        let (segments, d_out) = (segments(), values(15 * 24, 4));
        for (window, soft_cap) in [(None, None), (Some(3), None), (None, Some(SoftCap(0.3)))] {
            let mask = Mask {
                segments: &segments,
                window,
            };
            let heads = Heads { soft_cap, ..HEADS };
            let out = attend(&q, &k, &v, heads, mask);
            let expected = naive(&q, &k, &v, heads, mask);
            assert!(out.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-5));
            let [dq, dk, dv] = attend_backward(&q, &k, &v, heads, mask, &d_out);
            assert_gradient(&q, &d_out, &dq, |q| attend(q, &k, &v, heads, mask));
            assert_gradient(&k, &d_out, &dk, |k| attend(&q, k, &v, heads, mask));
            assert_gradient(&v, &d_out, &dv, |v| attend(&q, &k, v, heads, mask));
        }
    }
}
