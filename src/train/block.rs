//! A block of the transformer, with its gradient, on packed rows of features.
//!
//! ```text
//! mid = x   + post(O · attention(rope(norm(Q n)), rope(norm(K n)), V n)),  n = norm(x)
//! y   = mid + post(Down · (f(Gate m) ∘ (Up m))),                           m = norm(mid)
//! ```
//!
//! The norms of Q and K, the post-norms and the biases of the linear layers are optional: a block has those that its
//! file holds.

use super::lora::{BlockAdapters, LoraGradients, TargetModule};
use super::ops::attention::{Heads, Mask, attend_backward};
use super::ops::gate::{Activation, gated, gated_backward};
use super::ops::linear::{FrozenWeight, LowRank};
use super::ops::matrix::Into;
use super::ops::norm::RmsNorm;
use super::ops::rope::Rope;

/// A block's frozen weights.
pub struct Block {
    pub attention_norm: RmsNorm,
    pub q_norm: Option<RmsNorm>,
    pub k_norm: Option<RmsNorm>,
    pub post_attention_norm: Option<RmsNorm>,
    pub feed_forward_norm: RmsNorm,
    pub post_feed_forward_norm: Option<RmsNorm>,
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
    /// Runs the block: `[t, n_embd]` → `[t, n_embd]`. `attend(q, k, v)` computes attention, over the rows themselves or
    /// over a KV cache.
    pub fn forward(
        &self,
        x: &[f32],
        adapters: &BlockAdapters,
        rope: &Rope,
        attend: impl FnOnce(&[f32], &[f32], &[f32]) -> Vec<f32>,
    ) -> Vec<f32> {
        self.forward_keeping(x, adapters, rope, attend).0
    }

    /// [`Self::forward`], which also returns the activations that [`Self::backward`] needs.
    pub fn forward_keeping(
        &self,
        x: &[f32],
        adapters: &BlockAdapters,
        rope: &Rope,
        attend: impl FnOnce(&[f32], &[f32], &[f32]) -> Vec<f32>,
    ) -> (Vec<f32>, Activations) {
        use TargetModule::{Down, Gate, K, O, Q, Up, V};
        let mut kept = Activations::default();
        let project = |x: &[f32], target: TargetModule, kept: &mut Activations| {
            let (y, low) = self.linear(target, adapters).apply(x);
            kept.low[target as usize] = low;
            y
        };
        let n = self.attention_norm.forward(x);
        let q = project(&n, Q, &mut kept);
        (kept.q, kept.q_raw) = normed(self.q_norm.as_ref(), q);
        let k = project(&n, K, &mut kept);
        (kept.k, kept.k_raw) = normed(self.k_norm.as_ref(), k);
        kept.v = project(&n, V, &mut kept);
        rope.forward(&mut kept.q);
        rope.forward(&mut kept.k);
        kept.attended = attend(&kept.q, &kept.k, &kept.v);
        let o = self.linear(O, adapters);
        let norm = self.post_attention_norm.as_ref();
        (kept.mid, kept.o_raw, kept.low[O as usize]) = add_projected(x, &o, &kept.attended, norm);

        let m = self.feed_forward_norm.forward(&kept.mid);
        kept.gate = project(&m, Gate, &mut kept);
        kept.up = project(&m, Up, &mut kept);
        let product = gated(&kept.gate, &kept.up, self.activation);
        let down = self.linear(Down, adapters);
        let norm = self.post_feed_forward_norm.as_ref();
        let y;
        (y, kept.down_raw, kept.low[Down as usize]) =
            add_projected(&kept.mid, &down, &product, norm);
        (y, kept)
    }

    /// The gradients of `x`, `[t, n_embd]`, and of the adapters, from `dy`, that of the result.
    pub fn backward(
        &self,
        x: &[f32],
        kept: Activations,
        adapters: &BlockAdapters,
        rope: &Rope,
        mask: Mask,
        dy: &[f32],
    ) -> (Vec<f32>, LoraGradients) {
        use TargetModule::{Down, Gate, K, O, Q, Up, V};
        let linear = |target| self.linear(target, adapters);
        let mut gradients = LoraGradients::default();

        let mut d_mid = dy.to_vec();
        let d_down = d_normed(self.post_feed_forward_norm.as_ref(), &kept.down_raw, dy);
        let d_down = d_down.as_deref().unwrap_or(dy);
        let mut d_product = vec![0.0; kept.gate.len()];
        let product = gated(&kept.gate, &kept.up, self.activation);
        let given = (&*product, &*kept.low[Down as usize]);
        gradients[Down as usize] = linear(Down).backward(given, d_down, Into::Set, &mut d_product);
        let (mut d_gate, mut d_up) = (kept.gate, kept.up);
        gated_backward(&mut d_gate, &mut d_up, &d_product, self.activation);

        let m = self.feed_forward_norm.forward(&kept.mid);
        let mut d_m = vec![0.0; m.len()];
        for (target, dy, into) in [(Gate, &d_gate, Into::Set), (Up, &d_up, Into::Add)] {
            let given = (&*m, &*kept.low[target as usize]);
            gradients[target as usize] = linear(target).backward(given, dy, into, &mut d_m);
        }
        self.feed_forward_norm
            .backward(&kept.mid, &d_m, Into::Add, &mut d_mid);

        let d_o = d_normed(self.post_attention_norm.as_ref(), &kept.o_raw, &d_mid);
        let d_o = d_o.as_deref().unwrap_or(&d_mid);
        let mut d_attended = vec![0.0; kept.attended.len()];
        let given = (&*kept.attended, &*kept.low[O as usize]);
        gradients[O as usize] = linear(O).backward(given, d_o, Into::Set, &mut d_attended);
        let [mut dq, mut dk, dv] =
            attend_backward(&kept.q, &kept.k, &kept.v, self.heads, mask, &d_attended);
        rope.backward(&mut dq);
        rope.backward(&mut dk);
        let dq = d_normed(self.q_norm.as_ref(), &kept.q_raw, &dq).unwrap_or(dq);
        let dk = d_normed(self.k_norm.as_ref(), &kept.k_raw, &dk).unwrap_or(dk);

        let n = self.attention_norm.forward(x);
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
        let mut dx = d_mid;
        self.attention_norm.backward(x, &d_n, Into::Add, &mut dx);
        (dx, gradients)
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

/// `x + post(linear(rows))`. Returns it with what the post-norm was given (empty without a post-norm), and with `low`
/// of the linear layer.
fn add_projected(
    x: &[f32],
    linear: &Adapted,
    rows: &[f32],
    norm: Option<&RmsNorm>,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut y = x.to_vec();
    match norm {
        None => {
            let low = linear.forward(rows, Into::Add, &mut y);
            (y, Vec::new(), low)
        }
        Some(norm) => {
            let (raw, low) = linear.apply(rows);
            Into::Add.store(&mut y, norm.forward(&raw).into_iter());
            (y, raw, low)
        }
    }
}
