//! A block of the transformer, with its gradient, on packed rows of features.
//!
//! ```text
//! mid = x   + r · post(O · attention(rope(norm(Q n)), rope(norm(K n)), V n)),  n = norm(x)
//! y   = mid + r · post(Down · (f(Gate m) ∘ (Up m))),                           m = norm(mid)
//! ```
//!
//! Every norm, the rotation and the factor `r` are optional: which of them a block has is its family's
//! ([`super::family`]). The biases of the linear layers are those that the file holds.

use std::borrow::Cow;
use std::mem;

use super::lora::{BlockAdapters, LoraGradients, TargetModule};
use super::ops::attention::{Heads, Mask, attend_backward};
use super::ops::gate::{Activation, gated, gated_backward};
use super::ops::linear::{FrozenWeight, LowRank};
use super::ops::matrix::Into;
use super::ops::norm::RmsNorm;
use super::ops::rope::Ropes;

/// A block's frozen weights.
pub struct Block {
    pub attention_norm: Option<RmsNorm>,
    /// Over each head, or over all of them, which is as long as its weight.
    pub q_norm: Option<RmsNorm>,
    /// Over each head, or over all of them, as `q_norm` is.
    pub k_norm: Option<RmsNorm>,
    pub post_attention_norm: Option<RmsNorm>,
    pub feed_forward_norm: Option<RmsNorm>,
    pub post_feed_forward_norm: Option<RmsNorm>,
    /// `r`
    pub residual_scale: Option<f32>,
    /// In the order of [`TargetModule::ALL`].
    pub linear: [FrozenWeight; 7],
    pub heads: Heads,
    pub activation: Activation,
}

/// The values of a forward pass that its backward pass needs; `t` rows each.
#[derive(Default)]
pub struct Activations {
    /// Q before its norm; empty where Q has no norm.
    q_raw: Vec<f32>,
    /// K before its norm; empty where K has no norm.
    k_raw: Vec<f32>,
    /// Q after the rotation.
    q: Vec<f32>,
    /// K after the rotation.
    k: Vec<f32>,
    v: Vec<f32>,
    /// The result of attention.
    attended: Vec<f32>,
    /// The projection O before its post-norm; empty where there is none.
    o_raw: Vec<f32>,
    /// The projection Down before its post-norm; empty where there is none.
    down_raw: Vec<f32>,
    /// The residual stream between attention and the feed-forward layers.
    mid: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// `s (x Aᵀ)` of each adapter, `[t, rank]`.
    low: [Vec<f32>; 7],
}

impl Block {
    /// Runs the block: `[t, n_embd]` → `[t, n_embd]`, without a rotation if `rope` is `None`. `attend(q, k, v)` computes
    /// attention, over the rows themselves or over a KV cache.
    pub fn forward(
        &self,
        x: &[f32],
        adapters: &BlockAdapters,
        rope: Option<&Ropes>,
        attend: impl FnOnce(&[f32], &[f32], &[f32]) -> Vec<f32>,
    ) -> Vec<f32> {
        self.forward_keeping(x, adapters, rope, attend).0
    }

    /// [`Self::forward`], which also returns the activations that [`Self::backward`] needs.
    pub fn forward_keeping(
        &self,
        x: &[f32],
        adapters: &BlockAdapters,
        rope: Option<&Ropes>,
        attend: impl FnOnce(&[f32], &[f32], &[f32]) -> Vec<f32>,
    ) -> (Vec<f32>, Activations) {
        use TargetModule::{Down, Gate, K, O, Q, Up, V};
        let mut kept = Activations::default();
        let project = |x: &[f32], target: TargetModule, kept: &mut Activations| {
            let (y, low) = self.linear(target, adapters).apply(x);
            kept.low[target as usize] = low;
            y
        };
        let n = normed_input(self.attention_norm.as_ref(), x);
        let q = project(&n, Q, &mut kept);
        (kept.q, kept.q_raw) = normed(self.q_norm.as_ref(), q);
        let k = project(&n, K, &mut kept);
        (kept.k, kept.k_raw) = normed(self.k_norm.as_ref(), k);
        kept.v = project(&n, V, &mut kept);
        if let Some(rope) = rope {
            rope.q.forward(&mut kept.q);
            rope.k.forward(&mut kept.k);
        }
        kept.attended = attend(&kept.q, &kept.k, &kept.v);
        let o = self.linear(O, adapters);
        let post = (self.post_attention_norm.as_ref(), self.residual_scale);
        (kept.mid, kept.o_raw, kept.low[O as usize]) = add_projected(x, &o, &kept.attended, post);

        let m = normed_input(self.feed_forward_norm.as_ref(), &kept.mid).into_owned();
        kept.gate = project(&m, Gate, &mut kept);
        kept.up = project(&m, Up, &mut kept);
        let product = gated(&kept.gate, &kept.up, self.activation);
        let down = self.linear(Down, adapters);
        let post = (self.post_feed_forward_norm.as_ref(), self.residual_scale);
        let y;
        (y, kept.down_raw, kept.low[Down as usize]) =
            add_projected(&kept.mid, &down, &product, post);
        (y, kept)
    }

    /// The gradients of `x`, `[t, n_embd]`, and of the adapters, from `dy`, that of the result.
    pub fn backward(
        &self,
        x: &[f32],
        mut kept: Activations,
        adapters: &BlockAdapters,
        rope: Option<&Ropes>,
        mask: Mask,
        dy: &[f32],
    ) -> (Vec<f32>, LoraGradients) {
        let mut gradients = LoraGradients::default();
        let d_mid = self.feed_forward_backward(&mut kept, adapters, dy, &mut gradients);
        let given = (x, &kept);
        let dx = self.attention_backward(given, adapters, (rope, mask), d_mid, &mut gradients);
        (dx, gradients)
    }

    /// The gradient of `mid`, from `dy`. Adds those of the adapters to `gradients`.
    fn feed_forward_backward(
        &self,
        kept: &mut Activations,
        adapters: &BlockAdapters,
        dy: &[f32],
        gradients: &mut LoraGradients,
    ) -> Vec<f32> {
        use TargetModule::{Down, Gate, Up};
        let linear = |target| self.linear(target, adapters);
        let post = (self.post_feed_forward_norm.as_ref(), self.residual_scale);
        let d_down = d_projected(post, &kept.down_raw, dy);
        let mut d_product = vec![0.0; kept.gate.len()];
        let product = gated(&kept.gate, &kept.up, self.activation);
        let given = (&*product, &*kept.low[Down as usize]);
        gradients[Down as usize] = linear(Down).backward(given, &d_down, Into::Set, &mut d_product);
        let (mut d_gate, mut d_up) = (mem::take(&mut kept.gate), mem::take(&mut kept.up));
        gated_backward(&mut d_gate, &mut d_up, &d_product, self.activation);

        let norm = self.feed_forward_norm.as_ref();
        let m = normed_input(norm, &kept.mid);
        let mut d_m = vec![0.0; m.len()];
        for (target, dy, into) in [(Gate, &d_gate, Into::Set), (Up, &d_up, Into::Add)] {
            let given = (&*m, &*kept.low[target as usize]);
            gradients[target as usize] = linear(target).backward(given, dy, into, &mut d_m);
        }
        let mut d_mid = dy.to_vec();
        add_d_input(norm, &kept.mid, &d_m, &mut d_mid);
        d_mid
    }

    /// The gradient of `x`, from `d_mid`, that of `mid`. Adds those of the adapters to `gradients`.
    fn attention_backward(
        &self,
        (x, kept): (&[f32], &Activations),
        adapters: &BlockAdapters,
        (rope, mask): (Option<&Ropes>, Mask),
        d_mid: Vec<f32>,
        gradients: &mut LoraGradients,
    ) -> Vec<f32> {
        use TargetModule::{K, O, Q, V};
        let linear = |target| self.linear(target, adapters);
        let post = (self.post_attention_norm.as_ref(), self.residual_scale);
        let d_o = d_projected(post, &kept.o_raw, &d_mid);
        let mut d_attended = vec![0.0; kept.attended.len()];
        let given = (&*kept.attended, &*kept.low[O as usize]);
        gradients[O as usize] = linear(O).backward(given, &d_o, Into::Set, &mut d_attended);
        let [mut dq, mut dk, dv] =
            attend_backward(&kept.q, &kept.k, &kept.v, self.heads, mask, &d_attended);
        if let Some(rope) = rope {
            rope.q.backward(&mut dq);
            rope.k.backward(&mut dk);
        }
        let dq = d_normed(self.q_norm.as_ref(), &kept.q_raw, &dq).unwrap_or(dq);
        let dk = d_normed(self.k_norm.as_ref(), &kept.k_raw, &dk).unwrap_or(dk);

        let norm = self.attention_norm.as_ref();
        let n = normed_input(norm, x);
        let mut d_n = vec![0.0; n.len()];
        let sources = [
            (Q, &dq, Into::Set),
            (K, &dk, Into::Add),
            (V, &dv, Into::Add),
        ];
        for (target, dy, into) in sources {
            let given = (&*n, &*kept.low[target as usize]);
            gradients[target as usize] = linear(target).backward(given, dy, into, &mut d_n);
        }
        drop(d_o);
        let mut dx = d_mid;
        add_d_input(norm, x, &d_n, &mut dx);
        dx
    }

    fn linear<'a>(&'a self, target: TargetModule, adapters: &'a BlockAdapters) -> Adapted<'a> {
        Adapted {
            weight: &self.linear[target as usize],
            lora: adapters[target as usize].as_ref(),
        }
    }
}

/// A linear layer, with its adapter if it is adapted.
struct Adapted<'a> {
    weight: &'a FrozenWeight,
    lora: Option<&'a LowRank<'a>>,
}

impl Adapted<'_> {
    /// `y = …`, or `y += …`. Returns `low`, as [`FrozenWeight::forward`] does.
    fn forward(&self, x: &[f32], into: Into, y: &mut [f32]) -> Vec<f32> {
        self.weight.forward(x, self.lora, into, y)
    }

    /// [`Self::forward`] into a new matrix. Returns `(y, low)`.
    fn apply(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut y = vec![0.0; x.len() / self.weight.n_in() * self.weight.n_out()];
        let low = self.forward(x, Into::Set, &mut y);
        (y, low)
    }

    /// Stores the gradient of `x` in `dx`, and returns those of the adapter, `(dA, dB)`. `low` is from the forward
    /// pass.
    fn backward(
        &self,
        (x, low): (&[f32], &[f32]),
        dy: &[f32],
        into: Into,
        dx: &mut [f32],
    ) -> Option<(Vec<f32>, Vec<f32>)> {
        let d_low = self.weight.backward(dy, self.lora, into, dx);
        self.lora
            .map(|lora| self.weight.lora_gradients(lora, (x, low), (dy, &d_low)))
    }
}

/// The input of a branch of the block: `norm(x)`, or `x` itself without a norm.
fn normed_input<'x>(norm: Option<&RmsNorm>, x: &'x [f32]) -> Cow<'x, [f32]> {
    norm.map_or(Cow::Borrowed(x), |norm| Cow::Owned(norm.forward(x)))
}

/// Adds to `dx` the gradient of `x` from `dy`, that of [`normed_input`].
fn add_d_input(norm: Option<&RmsNorm>, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    match norm {
        Some(norm) => norm.backward(x, dy, Into::Add, dx),
        None => Into::Add.store(dx, dy.iter().copied()),
    }
}

/// `(norm(x), x)`; without a norm `(x, empty)`. The second value is what the norm's backward pass needs.
fn normed(norm: Option<&RmsNorm>, x: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
    match norm {
        Some(norm) => (norm.forward(&x), x),
        None => (x, Vec::new()),
    }
}

/// The gradient of `x` from `dy`, that of `norm(x)`. `None` without a norm.
fn d_normed(norm: Option<&RmsNorm>, x: &[f32], dy: &[f32]) -> Option<Vec<f32>> {
    norm.map(|norm| {
        let mut dx = vec![0.0; x.len()];
        norm.backward(x, dy, Into::Set, &mut dx);
        dx
    })
}

/// `x + r · post(linear(rows))`, with `post` and `r` where there are any. Returns it with what the post-norm was given
/// (empty without a post-norm), and with `low` of the linear layer.
fn add_projected(
    x: &[f32],
    linear: &Adapted,
    rows: &[f32],
    (norm, scale): (Option<&RmsNorm>, Option<f32>),
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut y = x.to_vec();
    if norm.is_none() && scale.is_none() {
        let low = linear.forward(rows, Into::Add, &mut y);
        return (y, Vec::new(), low);
    }
    let (raw, low) = linear.apply(rows);
    let (branch, raw) = normed(norm, raw);
    let scale = scale.unwrap_or(1.0);
    Into::Add.store(&mut y, branch.into_iter().map(|value| scale * value));
    (y, raw, low)
}

/// The gradient of `linear(rows)` in [`add_projected`], from `dy`, that of its result. `raw` is what the post-norm was
/// given.
fn d_projected<'d>(
    (norm, scale): (Option<&RmsNorm>, Option<f32>),
    raw: &[f32],
    dy: &'d [f32],
) -> Cow<'d, [f32]> {
    let scaled = |scale: f32| Cow::Owned(dy.iter().map(|dy| scale * dy).collect());
    let d_branch = scale.map_or(Cow::Borrowed(dy), scaled);
    d_normed(norm, raw, &d_branch).map_or(d_branch, Cow::Owned)
}
