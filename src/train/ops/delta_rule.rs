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
        let heads: Vec<_> = (0..self.n_v)
            .into_par_iter()
            .map(|head| DeltaHead::new(self, inputs, head).forward(lineage, &earlier))
            .collect();
        let mut o = vec![0.0; inputs.v.len()];
        let mut states = vec![Vec::with_capacity(self.state_len()); lineage.links().len()];
        for (head, (part, ends)) in heads.into_iter().enumerate() {
            put(&mut o, &part, (self.n_v, head, self.dim_v));
            for (state, end) in states.iter_mut().zip(ends) {
                state.extend(end);
            }
        }
        (o, states)
    }

    /// The gradients of the inputs from `d_o`, that of the results. No row goes on from an earlier pass.
    pub fn backward(self, inputs: DeltaInputs, lineage: &Lineage, d_o: &[f32]) -> DeltaGradients {
        let heads: Vec<_> = (0..self.n_v)
            .into_par_iter()
            .map(|head| DeltaHead::new(self, inputs, head).backward(lineage, d_o))
            .collect();
        let zeros = |x: &[f32]| vec![0.0; x.len()];
        let mut total = DeltaGradients {
            q: zeros(inputs.q),
            k: zeros(inputs.k),
            v: zeros(inputs.v),
            log_decay: zeros(inputs.log_decay),
            beta: zeros(inputs.beta),
        };
        for (head, part) in heads.into_iter().enumerate() {
            let key_head = head % self.n_k;
            put(&mut total.q, &part.q, (self.n_k, key_head, self.dim_k));
            put(&mut total.k, &part.k, (self.n_k, key_head, self.dim_k));
            put(&mut total.v, &part.v, (self.n_v, head, self.dim_v));
            put(&mut total.log_decay, &part.log_decay, (self.n_v, head, 1));
            put(&mut total.beta, &part.beta, (self.n_v, head, 1));
        }
        total
    }
}

/// Adds `part`, `[t, dim]`, to the columns of one head of `total`, `[t, n_heads · dim]`.
fn put(total: &mut [f32], part: &[f32], (n_heads, head, dim): (usize, usize, usize)) {
    let rows = total.chunks_exact_mut(n_heads * dim);
    for (row, part) in rows.zip(part.chunks_exact(dim)) {
        add(&mut row[head * dim..][..dim], part, 1.0);
    }
}

/// One head of all rows.
struct DeltaHead<'a> {
    heads: DeltaHeads,
    inputs: DeltaInputs<'a>,
    head: usize,
}

impl<'a> DeltaHead<'a> {
    fn new(heads: DeltaHeads, inputs: DeltaInputs<'a>, head: usize) -> Self {
        Self {
            heads,
            inputs,
            head,
        }
    }

    /// The results, `[t, dim_v]`, and the state after each segment.
    fn forward<'s>(
        &self,
        lineage: &Lineage,
        earlier: &(impl Fn(usize) -> Option<&'s [f32]> + Sync),
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let dim = self.heads.dim_v;
        let mut o = vec![0.0; self.inputs.log_decay.len() / self.heads.n_v * dim];
        let mut ends: Vec<Vec<f32>> = Vec::with_capacity(lineage.links().len());
        for link in lineage.links() {
            let mut state = self.begin(link.before, &ends, earlier);
            for rows in chunks(&link.rows) {
                let out = &mut o[rows.start * dim..rows.end * dim];
                Chunk::new(self, rows).forward(&mut state, Some(out));
            }
            ends.push(state);
        }
        (o, ends)
    }

    /// The state that a segment begins with.
    fn begin<'s>(
        &self,
        before: Predecessor,
        ends: &[Vec<f32>],
        earlier: &impl Fn(usize) -> Option<&'s [f32]>,
    ) -> Vec<f32> {
        let len = self.heads.head_len();
        let given = match before {
            Predecessor::Nothing => None,
            Predecessor::Segment(index) => Some(ends[index].clone()),
            Predecessor::Earlier { row, .. } => {
                earlier(row).map(|state| state[self.head * len..][..len].to_vec())
            }
        };
        given.unwrap_or_else(|| vec![0.0; len])
    }

    /// This head's gradients, from that of the results of all heads.
    fn backward(&self, lineage: &Lineage, d_o: &[f32]) -> DeltaGradients {
        let (links, len) = (lineage.links(), self.heads.head_len());
        let n_rows = self.inputs.log_decay.len() / self.heads.n_v;
        // The states before the chunks of each segment, and after the last one.
        let mut states: Vec<Vec<Vec<f32>>> = Vec::with_capacity(links.len());
        for link in links {
            let mut state = match link.before {
                Predecessor::Segment(index) => states[index][states[index].len() - 1].clone(),
                _ => vec![0.0; len],
            };
            let mut of_chunks = Vec::new();
            for rows in chunks(&link.rows) {
                of_chunks.push(state.clone());
                Chunk::new(self, rows).forward(&mut state, None);
            }
            of_chunks.push(state);
            states.push(of_chunks);
        }
        let mut gradients = DeltaGradients {
            q: vec![0.0; n_rows * self.heads.dim_k],
            k: vec![0.0; n_rows * self.heads.dim_k],
            v: vec![0.0; n_rows * self.heads.dim_v],
            log_decay: vec![0.0; n_rows],
            beta: vec![0.0; n_rows],
        };
        let mut d_ends = vec![vec![0.0; len]; links.len()];
        for (index, link) in links.iter().enumerate().rev() {
            let mut d_state = std::mem::take(&mut d_ends[index]);
            let of_chunks: Vec<_> = chunks(&link.rows).collect();
            for (rows, state) in of_chunks.into_iter().zip(&states[index]).rev() {
                Chunk::new(self, rows).backward(state, &mut d_state, d_o, &mut gradients);
            }
            if let Predecessor::Segment(parent) = link.before {
                add(&mut d_ends[parent], &d_state, 1.0);
            }
        }
        gradients
    }
}

/// The chunks of a segment.
fn chunks(rows: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let Range { start, end } = *rows;
    let starts = (start..end).step_by(CHUNK);
    starts.map(move |start| start..end.min(start + CHUNK))
}

#[cfg(test)]
mod tests;
