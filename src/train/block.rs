//! A block of the transformer, with its gradient, on packed rows of features: a *mixer*, which brings together the rows of
//! a sequence, and the feed-forward layers, which see each row alone.
//!
//! ```text
//! mid = x   + r · post(O · mixer(n)),                n = norm(x)
//! end = mid + r · post(Down · (f(Gate m) ∘ (Up m))), m = norm(mid)
//! y   = s · (end + post(Proj · (f(InputGate end) ∘ input)))
//! ```
//!
//! Every norm, the factors `r` and `s` and the block's own `input` are optional: which of them a block has is its family's
//! ([`super::family`]). The biases of the linear layers are those that the file holds.

pub mod attention;
pub mod branch;
pub mod delta_net;
pub mod feed_forward;
pub mod key_layers;
pub mod key_values;
pub mod layer_input;
pub mod mixer;
pub mod projection;
pub mod recall;
pub mod short_conv;

use std::sync::Arc;

use super::lora::{BlockAdapters, LoraGradients};
use super::ops::attention::Mask;
use super::ops::rope::Ropes;
use branch::{Branch, KeptBranch};
use feed_forward::{FeedForward, KeptFeedForward};
use key_values::KeysAndValues;
use layer_input::{KeptLayerInput, LayerInput};
use mixer::{KeptMixer, Mixer};
use projection::{BackwardPass, ForwardPass, Low};
use recall::Recall;

/// A block's frozen weights.
pub struct Block {
    pub mixer: Branch<Mixer>,
    pub feed_forward: Branch<FeedForward>,
    pub input: Option<Branch<LayerInput>>,
    /// `s`
    pub output_scale: Option<f32>,
}

/// The rows of a pass, as a block sees them.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The rotations of the rows' positions; `None` for a block without a rotation.
    pub rope: Option<&'a Ropes>,
    /// Which rows see which.
    pub mask: Mask<'a>,
    /// The rows' keys and values of an earlier block, for a block that has none of its own, in a pass without a memory.
    pub keys: Option<&'a Arc<KeysAndValues>>,
    /// The block's own input, `[t, n_input]`, if it has one.
    pub input: Option<&'a Arc<Vec<f32>>>,
}

/// The values of a forward pass that its backward pass needs; `t` rows each.
pub struct Activations {
    mixer: KeptBranch<KeptMixer>,
    /// The residual stream between the mixer and the feed-forward layers.
    mid: Vec<f32>,
    feed_forward: KeptBranch<KeptFeedForward>,
    /// The residual stream before the branch of the block's own input, and the values of that branch.
    input: Option<(Vec<f32>, KeptBranch<KeptLayerInput>)>,
    low: Low,
}

impl Activations {
    /// The rows' keys and values, of a block with attention.
    pub fn keys(&self) -> Option<&Arc<KeysAndValues>> {
        self.mixer.layers().keys()
    }
}

impl Block {
    /// Runs the block: `[t, n_embd]` → `[t, n_embd]`, over the rows of the pass alone, or with those that it remembers of
    /// earlier passes. Also returns the activations that [`Self::backward`] needs.
    pub fn forward(
        &self,
        x: &[f32],
        adapters: &BlockAdapters,
        view: View,
        recall: Option<Recall>,
    ) -> (Vec<f32>, Activations) {
        let mut pass = ForwardPass::new(adapters, view, recall);
        let (mid, mixer) = self.mixer.forward(x, &mut pass);
        let (end, feed_forward) = self.feed_forward.forward(&mid, &mut pass);
        let (mut y, input) = match &self.input {
            Some(branch) => {
                let (y, kept) = branch.forward(&end, &mut pass);
                (y, Some((end, kept)))
            }
            None => (end, None),
        };
        self.scale(&mut y);
        let kept = Activations {
            mixer,
            mid,
            feed_forward,
            input,
            low: pass.finish(),
        };
        (y, kept)
    }

    /// The gradients of `x`, `[t, n_embd]`, and of the adapters, from `dy`, that of the result. `d_keys` has those of the keys
    /// and values that the block uses, by later blocks that use them too; a block that uses those of an earlier block adds
    /// its own to them.
    pub fn backward(
        &self,
        x: &[f32],
        kept: Activations,
        adapters: &BlockAdapters,
        view: View,
        mut dy: Vec<f32>,
        d_keys: &mut Option<KeysAndValues>,
    ) -> (Vec<f32>, LoraGradients) {
        let Activations {
            mixer,
            mid,
            feed_forward,
            input,
            low,
        } = kept;
        let mut pass = BackwardPass::new(adapters, view, d_keys, low);
        self.scale(&mut dy);
        let d_end = match (&self.input, input) {
            (Some(branch), Some((end, kept))) => branch.backward(&end, kept, dy, &mut pass),
            _ => dy,
        };
        let d_mid = (self.feed_forward).backward(&mid, feed_forward, d_end, &mut pass);
        let dx = self.mixer.backward(x, mixer, d_mid, &mut pass);
        (dx, pass.finish())
    }

    /// Multiplies rows by the factor of the result, which is that of the gradients too.
    fn scale(&self, rows: &mut [f32]) {
        if let Some(scale) = self.output_scale {
            rows.iter_mut().for_each(|value| *value *= scale);
        }
    }
}
