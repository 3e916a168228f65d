//! A block of the transformer, with its gradient, on packed rows of features: a *mixer*, which brings together the rows of
//! a sequence, and the feed-forward layers, which see each row alone.
//!
//! ```text
//! mid = x   + r · post(O · mixer(n)),                n = norm(x)
//! y   = mid + r · post(Down · (f(Gate m) ∘ (Up m))), m = norm(mid)
//! ```
//!
//! Every norm and the factor `r` are optional: which of them a block has is its family's ([`super::family`]). The biases
//! of the linear layers are those that the file holds.

pub mod attention;
pub mod branch;
pub mod delta_net;
pub mod feed_forward;
pub mod mixer;
pub mod projection;
pub mod recall;
pub mod short_conv;

use super::lora::{BlockAdapters, LoraGradients};
use super::ops::attention::Mask;
use super::ops::rope::Ropes;
use branch::{Branch, KeptBranch};
use feed_forward::{FeedForward, KeptFeedForward};
use mixer::{KeptMixer, Mixer};
use projection::{BackwardPass, ForwardPass, Low};
use recall::Recall;

/// A block's frozen weights.
pub struct Block {
    pub mixer: Branch<Mixer>,
    pub feed_forward: Branch<FeedForward>,
}

/// The rows of a pass, as a block sees them.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The rotations of the rows' positions; `None` for a block without a rotation.
    pub rope: Option<&'a Ropes>,
    /// Which rows see which.
    pub mask: Mask<'a>,
}

/// The values of a forward pass that its backward pass needs; `t` rows each.
pub struct Activations {
    mixer: KeptBranch<KeptMixer>,
    /// The residual stream between the mixer and the feed-forward layers.
    mid: Vec<f32>,
    feed_forward: KeptBranch<KeptFeedForward>,
    low: Low,
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
        let (y, feed_forward) = self.feed_forward.forward(&mid, &mut pass);
        let kept = Activations {
            mixer,
            mid,
            feed_forward,
            low: pass.finish(),
        };
        (y, kept)
    }

    /// The gradients of `x`, `[t, n_embd]`, and of the adapters, from `dy`, that of the result.
    pub fn backward(
        &self,
        x: &[f32],
        kept: Activations,
        adapters: &BlockAdapters,
        view: View,
        dy: Vec<f32>,
    ) -> (Vec<f32>, LoraGradients) {
        let Activations {
            mixer,
            mid,
            feed_forward,
            low,
        } = kept;
        let mut pass = BackwardPass::new(adapters, view, low);
        let d_mid = (self.feed_forward).backward(&mid, feed_forward, dy, &mut pass);
        let dx = self.mixer.backward(x, mixer, d_mid, &mut pass);
        (dx, pass.finish())
    }
}
