//! A linear layer of a block, and the passes of a block through its linear layers, which carry the adapters.

use super::super::lora::{BlockAdapters, LoraGradients, TargetModule};
use super::super::ops::linear::{FrozenWeight, LowRank};
use super::super::ops::matrix::Into;
use super::key_values::KeysAndValues;
use super::{Recall, View};

/// A linear layer, and its name, by which its adapter is found.
pub struct Projection {
    pub target: TargetModule,
    pub weight: FrozenWeight,
}

/// `s (x Aᵀ)` of each adapter, `[t, rank]`, which the gradient of `B` needs.
pub type Low = [Vec<f32>; TargetModule::N];

/// A forward pass through one block.
pub struct ForwardPass<'a> {
    pub view: View<'a>,
    /// The memory of earlier passes; `None` if all rows that matter are in this pass.
    pub recall: Option<Recall<'a>>,
    adapters: &'a BlockAdapters<'a>,
    low: Low,
}

impl<'a> ForwardPass<'a> {
    /// A pass that has run no layer yet.
    pub fn new(
        adapters: &'a BlockAdapters<'a>,
        view: View<'a>,
        recall: Option<Recall<'a>>,
    ) -> Self {
        Self {
            view,
            recall,
            adapters,
            low: Low::default(),
        }
    }

    /// `linear(x)`: `[t, in]` → `[t, out]`.
    pub fn apply(&mut self, linear: &Projection, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / linear.weight.n_in() * linear.weight.n_out()];
        self.store(linear, x, Into::Set, &mut y);
        y
    }

    /// `y = linear(x)`, or `y += linear(x)`.
    pub fn store(&mut self, linear: &Projection, x: &[f32], into: Into, y: &mut [f32]) {
        let target = linear.target as usize;
        let lora = self.adapters[target].as_ref();
        self.low[target] = linear.weight.forward(x, lora, into, y);
    }

    /// Ends the pass, and gives the rows that the gradients of the adapters need.
    pub fn finish(self) -> Low {
        self.low
    }
}

/// A backward pass through one block.
pub struct BackwardPass<'a> {
    pub view: View<'a>,
    /// The gradients of the keys and values that the block's attention uses, by the later blocks that use them too.
    pub d_keys: &'a mut Option<KeysAndValues>,
    adapters: &'a BlockAdapters<'a>,
    /// From the forward pass.
    low: Low,
    gradients: LoraGradients,
}

impl<'a> BackwardPass<'a> {
    /// The backward pass of a forward pass that has left `low`.
    pub fn new(
        adapters: &'a BlockAdapters<'a>,
        view: View<'a>,
        d_keys: &'a mut Option<KeysAndValues>,
        low: Low,
    ) -> Self {
        Self {
            view,
            d_keys,
            adapters,
            low,
            gradients: LoraGradients::default(),
        }
    }

    /// Stores in `dx` the gradient of `x` from `dy`, that of `linear(x)`, and keeps the gradients of the adapter.
    pub fn store(
        &mut self,
        linear: &Projection,
        x: &[f32],
        dy: &[f32],
        into: Into,
        dx: &mut [f32],
    ) {
        let target = linear.target as usize;
        let lora: Option<&LowRank> = self.adapters[target].as_ref();
        let d_low = linear.weight.backward(dy, lora, into, dx);
        self.gradients[target] = lora.map(|lora| {
            let (given, got) = ((x, &*self.low[target]), (dy, &*d_low));
            linear.weight.lora_gradients(lora, given, got)
        });
    }

    /// The gradients of the adapters.
    pub fn finish(self) -> LoraGradients {
        self.gradients
    }
}
