//! A block of the transformer: [`super::super::block`] in candle's operations.

use candle_core::{DType, Device, Result, Tensor};

use super::super::block;
use super::super::block::branch::{Branch, Layers};
use super::super::ops::gate::Activation;
use super::custom_grad::custom_grad;
use super::linear::{CandleAdapters, CandleProjection};
use super::mixing::{CandleMixer, CandleView};
use super::rows::{Norm, copied, normed, sigmoid};

/// A block's frozen weights.
pub struct CandleBlock {
    mixing: CandleBranch,
    mixer: CandleMixer,
    feed_forward: CandleBranch,
    gate: CandleProjection,
    up: CandleProjection,
    activation: Activation,
}

/// A branch without the layers between its norm and its output projection.
struct CandleBranch {
    norm: Option<Norm>,
    output: CandleProjection,
    post_norm: Option<Norm>,
    residual_scale: Option<f32>,
}

impl CandleBlock {
    /// A copy on `device`, with its matrices in `dtype`.
    pub fn new(block: &block::Block, device: &Device, dtype: DType) -> Result<Self> {
        let linear = |linear| CandleProjection::new(linear, device, dtype);
        let feed_forward = &block.feed_forward.layers;
        Ok(Self {
            mixing: CandleBranch::new(&block.mixer, device, dtype)?,
            mixer: CandleMixer::new(&block.mixer.layers, device, dtype)?,
            feed_forward: CandleBranch::new(&block.feed_forward, device, dtype)?,
            gate: linear(&feed_forward.gate)?,
            up: linear(&feed_forward.up)?,
            activation: feed_forward.activation,
        })
    }

    /// Runs the block: `[t, n_embd]` → `[t, n_embd]`. `attend(q, k, v)` is given `[t, n_heads, head_dim]` each, and
    /// returns `[t, n_head · head_dim]`.
    pub fn forward(
        &self,
        x: &Tensor,
        view: CandleView,
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let adapters = view.adapters;
        let n = self.mixing.input(x)?;
        let mixed = self.mixer.forward(&n, view, attend)?;
        let mid = self.mixing.add(x, &mixed, adapters)?;

        let m = self.feed_forward.input(&mid)?;
        let gate = adapters.apply(&self.gate, &m)?;
        let gate = match self.activation {
            Activation::Silu => gate.silu()?,
            Activation::Gelu => gelu(&gate)?,
            Activation::Sigmoid => sigmoid(&gate)?,
        };
        let product = (gate * adapters.apply(&self.up, &m)?)?;
        self.feed_forward.add(&mid, &product, adapters)
    }
}

impl CandleBranch {
    /// A copy on `device`, with its matrix in `dtype`.
    fn new<L: Layers>(branch: &Branch<L>, device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self {
            norm: copied(branch.norm.as_ref(), device)?,
            output: CandleProjection::new(&branch.output, device, dtype)?,
            post_norm: copied(branch.post_norm.as_ref(), device)?,
            residual_scale: branch.residual_scale,
        })
    }

    /// The input of the layers.
    fn input(&self, x: &Tensor) -> Result<Tensor> {
        normed(self.norm.as_ref(), x.clone())
    }

    /// Adds the branch to the residual stream, from the result of its layers.
    fn add(&self, x: &Tensor, result: &Tensor, adapters: &CandleAdapters) -> Result<Tensor> {
        let output = adapters.apply(&self.output, result)?;
        let branch = normed(self.post_norm.as_ref(), output)?;
        match self.residual_scale {
            Some(scale) => x + (branch * f64::from(scale))?,
            None => x + branch,
        }
    }
}

/// [`Activation::Gelu`], with a gradient of ours: candle's gradient raises negative numbers to powers, which some
/// devices cannot compute.
fn gelu(x: &Tensor) -> Result<Tensor> {
    const CUBIC: f64 = 0.044_715;
    let root = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let kept = x.detach();
    let y = kept.gelu()?;
    custom_grad([x], &y, move |dy| {
        let square = kept.sqr()?;
        let t = (&kept * ((&square * (root * CUBIC))? + root)?)?.tanh()?;
        let slope_of_u = ((square * (3.0 * root * CUBIC))? + root)?;
        // The derivative, with t = tanh u: (1 + t) / 2 + x (1 − t²) u′ / 2.
        let curved = ((&kept * (1.0 - t.sqr()?)?)? * slope_of_u)?;
        Ok([(dy * ((t + 1.0 + curved)? * 0.5)?)?])
    })
}
