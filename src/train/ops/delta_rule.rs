//! The gated delta rule (Yang et al. 2024, arXiv 2412.06464) over packed sequences, in each head:
//!
//! ```text
//! S_t = α_t S_{t−1} + k_t u_tᵀ,   u_t = β_t (v_t − α_t S_{t−1}ᵀ k_t),   o_t = S_tᵀ q_t
//! ```
//!
//! with the decay `α = exp(g)`, `g ≤ 0`. The state `S`, `[dim_k, dim_v]`, is in f32. Rows are computed in chunks: with `S`
//! the state before a chunk, `γ_t` the product of its decays up to row `t`, and `D_ti = γ_t / γ_i`,
//!
//! ```text
//! (I + L) U = β ∘ (V − γ ∘ K S)   L = tril₋₁(β ∘ D ∘ K Kᵀ)
//! O = γ ∘ Q S + M U               M = tril(D ∘ Q Kᵀ)
//! S' = γ_last S + Wᵀ U            W = (γ_last / γ) ∘ K
//! ```
//!
//! which are products of matrices, linear in the length of the sequence. The backward pass runs the forward pass again for
//! the states before the chunks, and then goes through the chunks from the last one on. Its formulas are the derivatives
//! of these.

mod chunk;

use std::ops::Range;

use chunk::{Chunk, add};
use rayon::prelude::*;

use super::lineage::{Lineage, Predecessor};

/// Rows of a chunk: enough for efficient products, few enough to keep those within a chunk small.
const CHUNK: usize = 64;

/// Chunks that all heads go through before the next ones, so that the rows of a long text are in a cache when the heads'
/// results are put side by side.
const BLOCK: usize = 4;

/// The shape of the heads. Value head `h` uses key head `h mod n_k`, as the files order the heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaHeads {
    /// Heads of queries and keys.
    pub n_k: usize,
    /// Heads of values, of decays and of β.
    pub n_v: usize,
    /// Features of a query and of a key.
    pub dim_k: usize,
    /// Features of a value.
    pub dim_v: usize,
}

/// The inputs of `t` rows.
#[derive(Clone, Copy)]
pub struct DeltaInputs<'a> {
    /// `[t, n_k · dim_k]`
    pub q: &'a [f32],
    /// `[t, n_k · dim_k]`
    pub k: &'a [f32],
    /// `[t, n_v · dim_v]`
    pub v: &'a [f32],
    /// `g`, `[t, n_v]`
    pub log_decay: &'a [f32],
    /// `β`, `[t, n_v]`
    pub beta: &'a [f32],
}

/// The gradients of [`DeltaInputs`].
pub struct DeltaGradients {
    /// `[t, n_k · dim_k]`
    pub q: Vec<f32>,
    /// `[t, n_k · dim_k]`
    pub k: Vec<f32>,
    /// `[t, n_v · dim_v]`
    pub v: Vec<f32>,
    /// `[t, n_v]`
    pub log_decay: Vec<f32>,
    /// `[t, n_v]`
    pub beta: Vec<f32>,
}

impl DeltaHeads {
    /// Number of values of a state, `[n_v, dim_k, dim_v]`.
    pub fn state_len(self) -> usize {
        self.n_v * self.head_len()
    }

    fn head_len(self) -> usize {
        self.dim_k * self.dim_v
    }

    /// The results, `[t, n_v · dim_v]`, and the state after each segment. `earlier` gives the state after a row of an
    /// earlier pass.
    pub fn forward<'s>(
        self,
        inputs: DeltaInputs,
        lineage: &Lineage,
        earlier: impl Fn(usize) -> Option<&'s [f32]> + Sync,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let mut heads = self.each(inputs);
        let mut o = vec![0.0; inputs.v.len()];
        for block in steps(lineage).chunks(BLOCK) {
            let parts: Vec<Vec<_>> = run(&mut heads, |head| {
                let out = |step: &ChunkStep| head.forward(step, &earlier);
                block.iter().map(out).collect()
            });
            for (head, parts) in parts.iter().enumerate() {
                for (step, part) in block.iter().zip(parts) {
                    put(&mut o, step, part, (self.n_v, head));
                }
            }
        }
        let mut states = vec![Vec::with_capacity(self.state_len()); lineage.links().len()];
        for head in heads {
            let ends = states.iter_mut().zip(head.ends);
            ends.for_each(|(state, end)| state.extend(end));
        }
        (o, states)
    }

    /// The gradients of the inputs from `d_o`, that of the results. No row goes on from an earlier pass.
    pub fn backward(self, inputs: DeltaInputs, lineage: &Lineage, d_o: &[f32]) -> DeltaGradients {
        let steps = steps(lineage);
        let mut heads = self.each(inputs);
        run(&mut heads, |head| head.find_states(&steps));
        let zeros = |x: &[f32]| vec![0.0; x.len()];
        let mut total = DeltaGradients {
            q: zeros(inputs.q),
            k: zeros(inputs.k),
            v: zeros(inputs.v),
            log_decay: zeros(inputs.log_decay),
            beta: zeros(inputs.beta),
        };
        for block in steps.chunks(BLOCK).rev() {
            let parts: Vec<Vec<_>> = run(&mut heads, |head| {
                let gradients = |step: &ChunkStep| head.backward(step, d_o);
                block.iter().rev().map(gradients).collect()
            });
            for (head, parts) in parts.iter().enumerate() {
                let (key_column, column) = ((self.n_k, head % self.n_k), (self.n_v, head));
                for (step, part) in block.iter().rev().zip(parts) {
                    put(&mut total.q, step, &part.q, key_column);
                    put(&mut total.k, step, &part.k, key_column);
                    put(&mut total.v, step, &part.v, column);
                    put(&mut total.log_decay, step, &part.log_decay, column);
                    put(&mut total.beta, step, &part.beta, column);
                }
            }
        }
        total
    }

    fn each(self, inputs: DeltaInputs) -> Vec<DeltaHead> {
        let head = |head| DeltaHead {
            heads: self,
            inputs,
            head,
            ends: Vec::new(),
            befores: Vec::new(),
            d_ends: Vec::new(),
        };
        (0..self.n_v).map(head).collect()
    }
}

/// A chunk, and the segment that it is a part of.
struct ChunkStep {
    rows: Range<usize>,
    segment: usize,
    /// The state that the segment begins with, in the segment's first chunk.
    begins: Option<Predecessor>,
    /// Position among all steps.
    number: usize,
}

/// The chunks of all segments, each after those that it goes on from.
fn steps(lineage: &Lineage) -> Vec<ChunkStep> {
    let mut steps = Vec::new();
    for (segment, link) in lineage.links().iter().enumerate() {
        let Range { start, end } = link.rows;
        for first in (start..end).step_by(CHUNK) {
            steps.push(ChunkStep {
                rows: first..end.min(first + CHUNK),
                segment,
                begins: (first == start).then_some(link.before),
                number: steps.len(),
            });
        }
    }
    steps
}

/// Runs all heads in parallel.
fn run<'a, T: Send>(
    heads: &mut [DeltaHead<'a>],
    work: impl Fn(&mut DeltaHead<'a>) -> T + Send + Sync,
) -> Vec<T> {
    heads.par_iter_mut().map(work).collect()
}

/// Adds `part`, a step's `[n, dim]`, to the columns of one head of `total`, `[t, n_heads · dim]`.
fn put(total: &mut [f32], step: &ChunkStep, part: &[f32], (n_heads, head): (usize, usize)) {
    let dim = part.len() / step.rows.len();
    let width = n_heads * dim;
    let rows = total[step.rows.start * width..].chunks_exact_mut(width);
    for (row, part) in rows.zip(part.chunks_exact(dim)) {
        add(&mut row[head * dim..][..dim], part, 1.0);
    }
}

/// One head, which goes through the steps in their order, and backward in the reverse order.
struct DeltaHead<'a> {
    heads: DeltaHeads,
    inputs: DeltaInputs<'a>,
    head: usize,
    /// The state after each segment; that of the last one is the state so far.
    ends: Vec<Vec<f32>>,
    /// The state before each step, for the backward pass.
    befores: Vec<Vec<f32>>,
    /// The gradient of the state after each segment, or before the last step that was gone back over.
    d_ends: Vec<Vec<f32>>,
}

impl DeltaHead<'_> {
    /// The results of a step, `[n, dim_v]`.
    fn forward<'s>(
        &mut self,
        step: &ChunkStep,
        earlier: impl Fn(usize) -> Option<&'s [f32]>,
    ) -> Vec<f32> {
        self.begin(step, earlier);
        let chunk = Chunk::new(self, &step.rows);
        chunk.forward(&mut self.ends[step.segment])
    }

    /// Makes the state before `step` the last one.
    fn begin<'s>(&mut self, step: &ChunkStep, earlier: impl Fn(usize) -> Option<&'s [f32]>) {
        let len = self.heads.head_len();
        let given = match step.begins {
            None => return,
            Some(Predecessor::Nothing) => None,
            Some(Predecessor::Segment(index)) => Some(self.ends[index].clone()),
            Some(Predecessor::Earlier { row, .. }) => {
                earlier(row).map(|state| state[self.head * len..][..len].to_vec())
            }
        };
        self.ends.push(given.unwrap_or_else(|| vec![0.0; len]));
    }

    /// Finds the state before each step.
    fn find_states(&mut self, steps: &[ChunkStep]) {
        for step in steps {
            self.begin(step, |_| None);
            let chunk = Chunk::new(self, &step.rows);
            let state = &mut self.ends[step.segment];
            self.befores.push(state.clone());
            chunk.pass_on(state);
        }
        self.d_ends = vec![vec![0.0; self.heads.head_len()]; self.ends.len()];
    }

    /// This head's gradients of a step's rows, from that of the results of all heads.
    fn backward(&mut self, step: &ChunkStep, d_o: &[f32]) -> DeltaGradients {
        let chunk = Chunk::new(self, &step.rows);
        let before = &self.befores[step.number];
        let gradients = chunk.backward(before, &mut self.d_ends[step.segment], d_o);
        if let Some(Predecessor::Segment(parent)) = step.begins {
            let d_state = std::mem::take(&mut self.d_ends[step.segment]);
            add(&mut self.d_ends[parent], &d_state, 1.0);
        }
        gradients
    }
}

#[cfg(test)]
mod tests;
