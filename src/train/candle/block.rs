//! A block of the transformer: [`super::super::block`] in candle's operations.

use candle_core::{DType, Device, Result, Tensor};

use super::super::block;
use super::super::block::branch::{Branch, Layers};
use super::super::block::layer_input::LayerInput;
use super::super::ops::gate::Activation;
use super::custom_grad::custom_grad;
use super::linear::{CandleAdapters, CandleProjection};
use super::mixing::{Attended, CandleMixer, CandleView};
use super::rows::{Norm, copied, normed, sigmoid};

/// A block's frozen weights.
pub struct CandleBlock {
    mixing: CandleBranch,
    mixer: CandleMixer,
    feed_forward: CandleBranch,
    gate: CandleProjection,
    up: CandleProjection,
    activation: Activation,
    input: Option<CandleInput>,
    output_scale: Option<f32>,
}

/// The branch of a block's own input.
struct CandleInput {
    gate: CandleProjection,
    branch: CandleBranch,
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
            input: (block.input.as_ref())
                .map(|input| CandleInput::new(input, device, dtype))
                .transpose()?,
            output_scale: block.output_scale,
        })
    }

    /// Runs the block: `[t, n_embd]` → `[t, n_embd]`, with `attend` for attention.
    pub fn forward(
        &self,
        x: &Tensor,
        view: CandleView,
        attend: impl FnOnce(Attended) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (adapters, own_input) = (view.adapters, view.input);
        let n = self.mixing.input(x)?;
        let mixed = self.mixer.forward(&n, view, attend)?;
        let mid = self.mixing.add(x, &mixed, adapters)?;

        let m = self.feed_forward.input(&mid)?;
        let gate = self.activated(&adapters.apply(&self.gate, &m)?)?;
        let product = (gate * adapters.apply(&self.up, &m)?)?;
        let mut y = self.feed_forward.add(&mid, &product, adapters)?;

        if let (Some(CandleInput { gate, branch }), Some(input)) = (&self.input, own_input) {
            let product = (self.activated(&adapters.apply(gate, &y)?)? * input)?;
            y = branch.add(&y, &product, adapters)?;
        }
        match self.output_scale {
            Some(scale) => y * f64::from(scale),
            None => Ok(y),
        }
    }

    fn activated(&self, gate: &Tensor) -> Result<Tensor> {
        match self.activation {
            Activation::Silu => gate.silu(),
            Activation::Gelu => gelu(gate),
            Activation::Sigmoid => sigmoid(gate),
        }
    }
}

impl CandleInput {
    /// A copy on `device`, with its matrices in `dtype`.
    fn new(input: &Branch<LayerInput>, device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self {
            gate: CandleProjection::new(&input.layers.gate, device, dtype)?,
            branch: CandleBranch::new(input, device, dtype)?,
        })
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
