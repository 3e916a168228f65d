//! The feed-forward layers: `f(Gate m) ∘ (Up m)`, with `f` the activation.

use std::borrow::Cow;

use super::super::ops::gate::{Activation, gated, gated_backward};
use super::super::ops::matrix::Into;
use super::branch::Layers;
use super::projection::{BackwardPass, ForwardPass, Projection};

/// The feed-forward layers before their output projection.
pub struct FeedForward {
    pub gate: Projection,
    pub up: Projection,
    pub activation: Activation,
}

/// The results of both projections, `[t, n_ff]` each.
pub struct KeptFeedForward {
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Layers for FeedForward {
    type Kept = KeptFeedForward;

    fn forward(&self, m: &[f32], pass: &mut ForwardPass) -> KeptFeedForward {
        KeptFeedForward {
            gate: pass.apply(&self.gate, m),
            up: pass.apply(&self.up, m),
        }
    }

    fn result<'k>(&self, kept: &'k KeptFeedForward) -> Cow<'k, [f32]> {
        Cow::Owned(gated(&kept.gate, &kept.up, self.activation))
    }

    fn backward(
        &self,
        m: &[f32],
        kept: KeptFeedForward,
        d_result: &[f32],
        pass: &mut BackwardPass,
    ) -> Vec<f32> {
        let (mut d_gate, mut d_up) = (kept.gate, kept.up);
        gated_backward(&mut d_gate, &mut d_up, d_result, self.activation);
        let mut d_m = vec![0.0; m.len()];
        pass.store(&self.gate, m, &d_gate, Into::Set, &mut d_m);
        pass.store(&self.up, m, &d_up, Into::Add, &mut d_m);
        d_m
    }
}
