//! The layers of attention that make keys and values: `rope(norm(K n))` and `norm(V n)`, with the norms and the rotation
//! optional. Values may be made of `K n` too, by a norm of their own.

use super::super::ops::matrix::Into;
use super::super::ops::norm::RmsNorm;
use super::branch::{d_normed, normed};
use super::key_values::KeysAndValues;
use super::projection::{BackwardPass, ForwardPass, Projection};

/// The layers that make keys and values.
pub struct KeyLayers {
    pub k: Projection,
    /// `None` where the values are made of the keys before their norm, of which there must then be one.
    pub v: Option<Projection>,
    /// Over each head, or over all of them, which is as long as its weight.
    pub k_norm: Option<RmsNorm>,
    /// Over each head.
    pub v_norm: Option<RmsNorm>,
}

/// The keys and the values before their norms; empty where they have none, or where the values are made of the keys.
#[derive(Default)]
pub struct RawKeys {
    k: Vec<f32>,
    v: Vec<f32>,
}

impl KeyLayers {
    /// The keys and values of rows `n`, `[t, n_embd]`.
    pub fn forward(&self, n: &[f32], pass: &mut ForwardPass) -> (KeysAndValues, RawKeys) {
        let k = pass.apply(&self.k, n);
        let (values, v) = match &self.v {
            Some(v) => normed(self.v_norm.as_ref(), pass.apply(v, n)),
            None => (normed(self.v_norm.as_ref(), k.clone()).0, Vec::new()),
        };
        let (mut keys, k) = normed(self.k_norm.as_ref(), k);
        if let Some(rope) = pass.view.rope {
            rope.k.forward(&mut keys);
        }
        (KeysAndValues { keys, values }, RawKeys { k, v })
    }

    /// Adds to `d_n` the gradient of `n`, from those of the keys and values.
    pub fn backward(
        &self,
        n: &[f32],
        raw: &RawKeys,
        gradients: KeysAndValues,
        pass: &mut BackwardPass,
        d_n: &mut [f32],
    ) {
        let KeysAndValues {
            keys: mut dk,
            values: dv,
        } = gradients;
        if let Some(rope) = pass.view.rope {
            rope.k.backward(&mut dk);
        }
        let mut dk = d_normed(self.k_norm.as_ref(), &raw.k, &dk).unwrap_or(dk);
        let raw_v = if self.v.is_some() { &raw.v } else { &raw.k };
        let dv = d_normed(self.v_norm.as_ref(), raw_v, &dv).unwrap_or(dv);
        if self.v.is_none() {
            Into::Add.store(&mut dk, dv.iter().copied());
        }
        pass.store(&self.k, n, &dk, Into::Add, d_n);
        if let Some(v) = &self.v {
            pass.store(v, n, &dv, Into::Add, d_n);
        }
    }
}
