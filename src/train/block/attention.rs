//! Attention as a mixer: `attention(rope(norm(Q n)), rope(norm(K n)), V n) ∘ σ(gate)`. The norms, the rotation and the gate
//! are optional. Where there is a gate, Q gives it too: for each head the query, then its gate.

use std::borrow::Cow;
use std::mem;

use super::super::ops::attention::{Heads, attend, attend_backward};
use super::super::ops::gate::{Activation, gated, gated_backward};
use super::super::ops::matrix::Into;
use super::super::ops::norm::RmsNorm;
use super::branch::{Layers, d_normed, normed};
use super::projection::{BackwardPass, ForwardPass, Projection};

/// Attention before its output projection.
pub struct Attention {
    pub q: Projection,
    pub k: Projection,
    pub v: Projection,
    /// Over each head, or over all of them, which is as long as its weight.
    pub q_norm: Option<RmsNorm>,
    /// Over each head, or over all of them, as `q_norm` is.
    pub k_norm: Option<RmsNorm>,
    pub heads: Heads,
    /// Whether Q gives a gate too.
    pub has_gate: bool,
}

/// The values of attention's forward pass.
pub struct KeptAttention {
    /// Q before its norm; empty where Q has no norm.
    q_raw: Vec<f32>,
    /// K before its norm; empty where K has no norm.
    k_raw: Vec<f32>,
    /// Q after the rotation.
    q: Vec<f32>,
    /// K after the rotation.
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    /// The gate; empty where there is none.
    gate: Vec<f32>,
}

impl Layers for Attention {
    type Kept = KeptAttention;

    fn forward(&self, n: &[f32], pass: &mut ForwardPass) -> KeptAttention {
        let (q, gate) = self.divided(pass.apply(&self.q, n));
        let (mut q, q_raw) = normed(self.q_norm.as_ref(), q);
        let (mut k, k_raw) = normed(self.k_norm.as_ref(), pass.apply(&self.k, n));
        let v = pass.apply(&self.v, n);
        if let Some(rope) = pass.view.rope {
            rope.q.forward(&mut q);
            rope.k.forward(&mut k);
        }
        let mask = pass.view.mask;
        let attended = match &mut pass.recall {
            Some(recall) => {
                let (keys, values) = recall.keys_and_values(&k, &v);
                attend(&q, keys, values, self.heads, mask)
            }
            None => attend(&q, &k, &v, self.heads, mask),
        };
        KeptAttention {
            q_raw,
            k_raw,
            q,
            k,
            v,
            attended,
            gate,
        }
    }

    fn result<'k>(&self, kept: &'k KeptAttention) -> Cow<'k, [f32]> {
        if self.has_gate {
            let gated = gated(&kept.gate, &kept.attended, Activation::Sigmoid);
            return Cow::Owned(gated);
        }
        Cow::Borrowed(&kept.attended)
    }

    fn backward(
        &self,
        n: &[f32],
        mut kept: KeptAttention,
        d_result: &[f32],
        pass: &mut BackwardPass,
    ) -> Vec<f32> {
        let mut d_gate = mem::take(&mut kept.gate);
        let d_attended = if self.has_gate {
            let mut d_attended = mem::take(&mut kept.attended);
            gated_backward(&mut d_gate, &mut d_attended, d_result, Activation::Sigmoid);
            Cow::Owned(d_attended)
        } else {
            Cow::Borrowed(d_result)
        };
        let KeptAttention { q, k, v, .. } = &kept;
        let [mut dq, mut dk, dv] =
            attend_backward(q, k, v, self.heads, pass.view.mask, &d_attended);
        if let Some(rope) = pass.view.rope {
            rope.q.backward(&mut dq);
            rope.k.backward(&mut dk);
        }
        let dq = d_normed(self.q_norm.as_ref(), &kept.q_raw, &dq).unwrap_or(dq);
        let dq = self.joined(dq, &d_gate);
        let dk = d_normed(self.k_norm.as_ref(), &kept.k_raw, &dk).unwrap_or(dk);
        let mut d_n = vec![0.0; n.len()];
        pass.store(&self.q, n, &dq, Into::Set, &mut d_n);
        pass.store(&self.k, n, &dk, Into::Add, &mut d_n);
        pass.store(&self.v, n, &dv, Into::Add, &mut d_n);
        d_n
    }
}

impl Attention {
    /// Divides the rows of Q, `[t, n_head, 2 · head_dim]`, into queries and gate; all are queries where there is no gate.
    fn divided(&self, rows: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        if !self.has_gate {
            return (rows, Vec::new());
        }
        let heads = rows.chunks_exact(2 * self.heads.head_dim);
        let (mut q, mut gate) = (Vec::new(), Vec::new());
        for head in heads {
            let (query, of_gate) = head.split_at(self.heads.head_dim);
            q.extend(query);
            gate.extend(of_gate);
        }
        (q, gate)
    }

    /// The inverse of [`Self::divided`].
    fn joined(&self, q: Vec<f32>, gate: &[f32]) -> Vec<f32> {
        if !self.has_gate {
            return q;
        }
        let dim = self.heads.head_dim;
        let heads = q.chunks_exact(dim).zip(gate.chunks_exact(dim));
        heads.flat_map(|(q, gate)| [q, gate].concat()).collect()
    }
}
