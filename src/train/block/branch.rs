//! A branch of a block, `y = x + r · post(Out · layers(norm(x)))`, with its gradient. The norms and the factor `r` are
//! optional.

use std::borrow::Cow;

use super::super::ops::matrix::Into;
use super::super::ops::norm::RmsNorm;
use super::projection::{BackwardPass, ForwardPass, Projection};

/// A branch, which adds its result to the residual stream.
pub struct Branch<L> {
    pub norm: Option<RmsNorm>,
    pub layers: L,
    /// `Out`
    pub output: Projection,
    /// `post`
    pub post_norm: Option<RmsNorm>,
    /// `r`
    pub residual_scale: Option<f32>,
}

/// The layers of a branch between its norm and its output projection.
pub trait Layers {
    /// The values of a forward pass that the result and the backward pass need; `t` rows each.
    type Kept;

    /// Runs the layers on `n`, `[t, n_embd]`.
    fn forward(&self, n: &[f32], pass: &mut ForwardPass) -> Self::Kept;

    /// The result, `[t, width of Out]`.
    fn result<'k>(&self, kept: &'k Self::Kept) -> Cow<'k, [f32]>;

    /// The gradient of `n`, from `d_result`.
    fn backward(
        &self,
        n: &[f32],
        kept: Self::Kept,
        d_result: &[f32],
        pass: &mut BackwardPass,
    ) -> Vec<f32>;
}

/// The values of a branch's forward pass that its backward pass needs.
pub struct KeptBranch<K> {
    layers: K,
    /// The input of the post-norm; empty where there is none.
    raw: Vec<f32>,
}

impl<K> KeptBranch<K> {
    /// The values that the layers have kept.
    pub fn layers(&self) -> &K {
        &self.layers
    }
}

impl<L: Layers> Branch<L> {
    /// Runs the branch: `[t, n_embd]` → `[t, n_embd]`.
    pub fn forward(&self, x: &[f32], pass: &mut ForwardPass) -> (Vec<f32>, KeptBranch<L::Kept>) {
        let layers = self.layers.forward(&self.normed_input(x), pass);
        let result = self.layers.result(&layers);
        let mut y = x.to_vec();
        if self.post_norm.is_none() && self.residual_scale.is_none() {
            pass.store(&self.output, &result, Into::Add, &mut y);
            let raw = Vec::new();
            drop(result);
            return (y, KeptBranch { layers, raw });
        }
        let (branch, raw) = normed(self.post_norm.as_ref(), pass.apply(&self.output, &result));
        drop(result);
        let scale = self.residual_scale.unwrap_or(1.0);
        Into::Add.store(&mut y, branch.into_iter().map(|value| scale * value));
        (y, KeptBranch { layers, raw })
    }

    /// The gradient of `x`, from `dy`, that of the result.
    pub fn backward(
        &self,
        x: &[f32],
        kept: KeptBranch<L::Kept>,
        dy: Vec<f32>,
        pass: &mut BackwardPass,
    ) -> Vec<f32> {
        let KeptBranch { layers, raw } = kept;
        let result = self.layers.result(&layers);
        let mut d_result = vec![0.0; result.len()];
        let d_output = self.d_output(&raw, &dy);
        pass.store(&self.output, &result, &d_output, Into::Set, &mut d_result);
        drop((result, d_output));
        let d_n = (self.layers).backward(&self.normed_input(x), layers, &d_result, pass);
        let mut dx = dy;
        match &self.norm {
            Some(norm) => norm.backward(x, &d_n, Into::Add, &mut dx),
            None => Into::Add.store(&mut dx, d_n.into_iter()),
        }
        dx
    }

    fn normed_input<'x>(&self, x: &'x [f32]) -> Cow<'x, [f32]> {
        let norm = self.norm.as_ref();
        norm.map_or(Cow::Borrowed(x), |norm| Cow::Owned(norm.forward(x)))
    }

    /// The gradient of the output projection, from `dy`, that of the branch's result. `raw` is what the post-norm was
    /// given.
    fn d_output<'d>(&self, raw: &[f32], dy: &'d [f32]) -> Cow<'d, [f32]> {
        let scaled = |scale: f32| Cow::Owned(dy.iter().map(|dy| scale * dy).collect());
        let d_branch = self.residual_scale.map_or(Cow::Borrowed(dy), scaled);
        d_normed(self.post_norm.as_ref(), raw, &d_branch).map_or(d_branch, Cow::Owned)
    }
}

/// `(norm(x), x)`; without a norm `(x, empty)`. The second value is what the norm's backward pass needs.
pub fn normed(norm: Option<&RmsNorm>, x: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
    match norm {
        Some(norm) => (norm.forward(&x), x),
        None => (x, Vec::new()),
    }
}

/// The gradient of `x` from `dy`, that of `norm(x)`. `None` without a norm.
pub fn d_normed(norm: Option<&RmsNorm>, x: &[f32], dy: &[f32]) -> Option<Vec<f32>> {
    norm.map(|norm| {
        let mut dx = vec![0.0; x.len()];
        norm.backward(x, dy, Into::Set, &mut dx);
        dx
    })
}
