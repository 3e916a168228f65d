//! A block of the transformer: [`super::super::block`] in candle's operations.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::super::block;
use super::super::lora::TargetModule;
use super::super::ops::attention::Heads;
use super::super::ops::gate::Activation;
use super::super::ops::norm::RmsNorm;
use super::super::ops::rope::{Pairs, Rope, Ropes};
use super::custom_grad::custom_grad;
use super::linear::{CandleAdapters, CandleLinear};

/// A block's frozen weights.
pub struct CandleBlock {
    attention_norm: Option<Norm>,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    post_attention_norm: Option<Norm>,
    feed_forward_norm: Option<Norm>,
    post_feed_forward_norm: Option<Norm>,
    residual_scale: Option<f32>,
    linear: Vec<CandleLinear>,
    heads: Heads,
    activation: Activation,
}

impl CandleBlock {
    /// A copy on `device`, with its matrices in `dtype`.
    pub fn new(block: &block::Block, device: &Device, dtype: DType) -> Result<Self> {
        let norm = |norm: &Option<RmsNorm>| {
            let norm = norm.as_ref();
            norm.map(|norm| Norm::new(norm, device)).transpose()
        };
        let linear = block.linear.iter();
        let linear = linear.map(|weight| CandleLinear::new(weight, device, dtype));
        Ok(Self {
            attention_norm: norm(&block.attention_norm)?,
            q_norm: norm(&block.q_norm)?,
            k_norm: norm(&block.k_norm)?,
            post_attention_norm: norm(&block.post_attention_norm)?,
            feed_forward_norm: norm(&block.feed_forward_norm)?,
            post_feed_forward_norm: norm(&block.post_feed_forward_norm)?,
            residual_scale: block.residual_scale,
            linear: linear.collect::<Result<_>>()?,
            heads: block.heads,
            activation: block.activation,
        })
    }

    /// Runs the block: `[t, n_embd]` → `[t, n_embd]`. `attend(q, k, v)` is given `[t, n_heads, head_dim]` each, and
    /// returns `[t, n_head · head_dim]`.
    pub fn forward(
        &self,
        x: &Tensor,
        adapters: &CandleAdapters,
        rotations: Option<&Rotations>,
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        use TargetModule::{Down, Gate, K, O, Q, Up, V};
        let project = |x: &Tensor, target: TargetModule| {
            let target = target as usize;
            self.linear[target].forward(x, adapters.get(target))
        };
        let by_head = |x: &Tensor, n: usize| x.reshape(((), n, self.heads.head_dim));
        let n = normed(self.attention_norm.as_ref(), x.clone())?;
        let q = normed_parts(self.q_norm.as_ref(), project(&n, Q)?)?;
        let k = normed_parts(self.k_norm.as_ref(), project(&n, K)?)?;
        let mut q = by_head(&q, self.heads.n_head)?;
        let mut k = by_head(&k, self.heads.n_head_kv)?;
        let v = by_head(&project(&n, V)?, self.heads.n_head_kv)?;
        if let Some(rotations) = rotations {
            q = rotations.q.forward(&q)?;
            k = rotations.k.forward(&k)?;
        }
        let o = project(&attend(&q, &k, &v)?, O)?;
        let mid = self.add(x, &normed(self.post_attention_norm.as_ref(), o)?)?;

        let m = normed(self.feed_forward_norm.as_ref(), mid.clone())?;
        let gate = project(&m, Gate)?;
        let gate = match self.activation {
            Activation::Silu => gate.silu()?,
            Activation::Gelu => gelu(&gate)?,
        };
        let down = project(&(gate * project(&m, Up)?)?, Down)?;
        self.add(&mid, &normed(self.post_feed_forward_norm.as_ref(), down)?)
    }

    /// Adds the result of a branch to the residual stream.
    fn add(&self, x: &Tensor, branch: &Tensor) -> Result<Tensor> {
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

/// `norm(x)`, or `x` without a norm.
fn normed(norm: Option<&Norm>, x: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x),
        None => Ok(x),
    }
}

/// [`normed`] over parts of the rows of `x`, each as long as the norm's weight.
fn normed_parts(norm: Option<&Norm>, x: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x.reshape(((), norm.weight.dim(0)?))?),
        None => Ok(x),
    }
}

/// [`RmsNorm`] over the last dimension.
pub struct Norm {
    weight: Tensor,
    epsilon: f64,
}

impl Norm {
    /// A copy on `device`.
    pub fn new(norm: &RmsNorm, device: &Device) -> Result<Self> {
        Ok(Self {
            weight: Tensor::new(norm.weight(), device)?,
            epsilon: f64::from(norm.epsilon()),
        })
    }

    /// Normalises over the last dimension of `x`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (kept, last) = (x.detach(), x.rank() - 1);
        let n = x.dim(last)? as f64;
        let mean = (kept.sqr()?.sum_keepdim(last)? / n)?;
        let inverse_rms = (mean + self.epsilon)?.sqrt()?.recip()?;
        let normed = kept.broadcast_mul(&inverse_rms)?;
        let y = normed.broadcast_mul(&self.weight)?;
        let weight = self.weight.clone();
        custom_grad([x], &y, move |dy| {
            let d = dy.broadcast_mul(&weight)?;
            let mean = ((&d * &normed)?.sum_keepdim(last)? / n)?;
            let d = (d - normed.broadcast_mul(&mean)?)?;
            Ok([d.broadcast_mul(&inverse_rms)?])
        })
    }
}

/// [`Ropes`] on a device.
pub struct Rotations {
    q: Rotation,
    k: Rotation,
}

impl Rotations {
    /// A copy on `device`.
    pub fn new(ropes: &Ropes, device: &Device) -> Result<Self> {
        let k = Rotation::new(&ropes.k, device)?;
        let q = if Arc::ptr_eq(&ropes.q, &ropes.k) {
            k.clone()
        } else {
            Rotation::new(&ropes.q, device)?
        };
        Ok(Self { q, k })
    }
}

/// [`Rope`] on a device.
#[derive(Clone)]
pub struct Rotation {
    /// Cosines of the angles, `[t, 1, n_rot / 2]`.
    cos: Tensor,
    /// Sines of the angles, `[t, 1, n_rot / 2]`.
    sin: Tensor,
    pairs: Pairs,
    /// `n_rot / 2`.
    half: usize,
}

impl Rotation {
    /// A copy on `device`.
    pub fn new(rope: &Rope, device: &Device) -> Result<Self> {
        let half = rope.n_rot() / 2;
        let (cos, sin): (Vec<_>, Vec<_>) = rope.rotations().iter().copied().unzip();
        Ok(Self {
            cos: Tensor::from_vec(cos, ((), 1, half), device)?,
            sin: Tensor::from_vec(sin, ((), 1, half), device)?,
            pairs: rope.pairs(),
            half,
        })
    }

    /// Rotates the first features of each head of `x`, `[t, n_heads, head_dim]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rotation = self.clone();
        custom_grad([x], &self.turn(&x.detach())?, move |dy| {
            let back = Self {
                sin: rotation.sin.neg()?,
                ..rotation.clone()
            };
            Ok([back.turn(dy)?])
        })
    }

    fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let (t, n_heads, head_dim) = x.dims3()?;
        let n_rot = 2 * self.half;
        let turned = x.narrow(2, 0, n_rot)?;
        // The dimension of size 2 separates the two members of each pair.
        let (shape, apart) = match self.pairs {
            Pairs::Adjacent => ([t, n_heads, self.half, 2], 3),
            Pairs::Halves => ([t, n_heads, 2, self.half], 2),
        };
        let turned = turned.reshape(&shape)?;
        let [first, second] = [0, 1].map(|i| turned.narrow(apart, i, 1)?.squeeze(apart));
        let (first, second) = (first?, second?);
        let new = [
            (first.broadcast_mul(&self.cos)? - second.broadcast_mul(&self.sin)?)?,
            (first.broadcast_mul(&self.sin)? + second.broadcast_mul(&self.cos)?)?,
        ];
        let turned = Tensor::stack(&new, apart)?.reshape((t, n_heads, n_rot))?;
        if n_rot == head_dim {
            return Ok(turned);
        }
        let rest = x.narrow(2, n_rot, head_dim - n_rot)?;
        Tensor::cat(&[turned, rest], 2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ops::finite_differences::values;
    use super::*;

    #[test]
    fn a_rotation_agrees_with_rope() {
        for pairs in [Pairs::Adjacent, Pairs::Halves] {
            // Six of a head's eight features are rotated.
            let rope = Rope::new(&[0, 3, 90], (&[1.0, 0.3, 0.01], 1.3), pairs, 8);
            let rope = rope.times(&[1.0, 0.8, 1.1]);
            let mut expected = values(3 * 16, 1);
            let x = Tensor::new(expected.as_slice(), &Device::Cpu).unwrap();
            rope.forward(&mut expected);
            let rotation = Rotation::new(&rope, &Device::Cpu).unwrap();
            let turned = rotation.forward(&x.reshape((3, 2, 8)).unwrap()).unwrap();
            let turned = turned.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let pairs = turned.iter().zip(&expected);
            assert!(pairs.into_iter().all(|(x, y)| (x - y).abs() < 1e-6));
        }
    }
}
