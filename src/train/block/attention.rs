//! Attention as a mixer: `attention(rope(norm(Q n)), keys, values) ∘ σ(gate)`. The norm, the rotation and the gate are
//! optional. Where there is a gate, Q gives it too: for each head the query, then its gate. The keys and values are the
//! block's own ([`super::key_layers`]), or those of an earlier block.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;

use super::super::ops::attention::{Heads, attend, attend_backward};
use super::super::ops::gate::{Activation, gated, gated_backward};
use super::super::ops::matrix::Into;
use super::super::ops::norm::RmsNorm;
use super::branch::{Layers, d_normed, normed};
use super::key_layers::{KeyLayers, RawKeys};
use super::key_values::KeysAndValues;
use super::projection::{BackwardPass, ForwardPass, Projection};

/// Attention before its output projection.
pub struct Attention {
    pub q: Projection,
    /// Over each head, or over all of them, which is as long as its weight.
    pub q_norm: Option<RmsNorm>,
    /// `None` where the keys and values are those of an earlier block.
    pub keys: Option<KeyLayers>,
    pub heads: Heads,
    /// Whether Q gives a gate too.
    pub has_gate: bool,
}

/// The values of attention's forward pass.
pub struct KeptAttention {
    /// Q before its norm; empty where Q has no norm.
    q_raw: Vec<f32>,
    /// Q after the rotation.
    q: Vec<f32>,
    /// The rows' keys after the rotation and their values, of this block or of an earlier one.
    keys: Arc<KeysAndValues>,
    raw_keys: RawKeys,
    attended: Vec<f32>,
    /// The gate; empty where there is none.
    gate: Vec<f32>,
}

impl KeptAttention {
    /// The rows' keys and values.
    pub fn keys(&self) -> &Arc<KeysAndValues> {
        &self.keys
    }
}

impl Layers for Attention {
    type Kept = KeptAttention;

    fn forward(&self, n: &[f32], pass: &mut ForwardPass) -> KeptAttention {
        let (q, gate) = self.divided(pass.apply(&self.q, n));
        let (mut q, q_raw) = normed(self.q_norm.as_ref(), q);
        if let Some(rope) = pass.view.rope {
            rope.q.forward(&mut q);
        }
        let (keys, raw_keys) = match &self.keys {
            Some(layers) => {
                let (keys, raw) = layers.forward(n, pass);
                (Arc::new(keys), raw)
            }
            None => (
                pass.view.keys.cloned().unwrap_or_default(),
                RawKeys::default(),
            ),
        };
        let mask = pass.view.mask;
        let attended = match &mut pass.recall {
            Some(recall) => {
                if self.keys.is_some() {
                    recall.add_keys(&keys);
                }
                let KeysAndValues { keys, values } = recall.keys();
                attend(&q, keys, values, self.heads, mask)
            }
            None => attend(&q, &keys.keys, &keys.values, self.heads, mask),
        };
        KeptAttention {
            q_raw,
            q,
            keys,
            raw_keys,
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
        let KeysAndValues { keys: k, values: v } = &*kept.keys;
        let [mut dq, keys, values] =
            attend_backward(&kept.q, k, v, self.heads, pass.view.mask, &d_attended);
        let mut d_keys = KeysAndValues { keys, values };
        if let Some(of_later) = pass.d_keys.take() {
            d_keys.add(&of_later);
        }
        if let Some(rope) = pass.view.rope {
            rope.q.backward(&mut dq);
        }
        let dq = d_normed(self.q_norm.as_ref(), &kept.q_raw, &dq).unwrap_or(dq);
        let dq = self.joined(dq, &d_gate);
        let mut d_n = vec![0.0; n.len()];
        pass.store(&self.q, n, &dq, Into::Set, &mut d_n);
        match &self.keys {
            Some(layers) => layers.backward(n, &kept.raw_keys, d_keys, pass, &mut d_n),
            None => *pass.d_keys = Some(d_keys),
        }
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
