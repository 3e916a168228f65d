//! The layers of a block for an input that it has beside the residual stream (Gemma 4): `f(Gate y) ∘ input`, with `f` the
//! activation. The input is frozen.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::ops::gate::{Activation, gated, gated_backward};
use super::super::ops::matrix::Into;
use super::branch::Layers;
use super::projection::{BackwardPass, ForwardPass, Projection};

/// The layers before their output projection.
pub struct LayerInput {
    pub gate: Projection,
    pub activation: Activation,
}

/// The values of a forward pass, `[t, n_input]` each.
pub struct KeptLayerInput {
    gate: Vec<f32>,
    input: Arc<Vec<f32>>,
}

impl Layers for LayerInput {
    type Kept = KeptLayerInput;

    fn forward(&self, y: &[f32], pass: &mut ForwardPass) -> KeptLayerInput {
        let Some(input) = pass.view.input else {
            unreachable!("a block with an input is given one")
        };
        KeptLayerInput {
            input: Arc::clone(input),
            gate: pass.apply(&self.gate, y),
        }
    }

    fn result<'k>(&self, kept: &'k KeptLayerInput) -> Cow<'k, [f32]> {
        Cow::Owned(gated(&kept.gate, &kept.input, self.activation))
    }

    fn backward(
        &self,
        y: &[f32],
        kept: KeptLayerInput,
        d_result: &[f32],
        pass: &mut BackwardPass,
    ) -> Vec<f32> {
        let (mut d_gate, mut d_input) = (kept.gate, kept.input.to_vec());
        gated_backward(&mut d_gate, &mut d_input, d_result, self.activation);
        let mut dy = vec![0.0; y.len()];
        pass.store(&self.gate, y, &d_gate, Into::Set, &mut dy);
        dy
    }
}
