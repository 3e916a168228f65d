//! A block of the transformer: [`super::super::block`] in candle's operations.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::super::block;
use super::super::block::branch::{Branch, Layers};
use super::super::ops::attention::Heads;
use super::super::ops::gate::Activation;
use super::super::ops::norm::RmsNorm;
use super::super::ops::rope::{Pairs, Rope, Ropes};
use super::custom_grad::custom_grad;
use super::linear::{CandleAdapters, CandleProjection};

/// A block's frozen weights.
pub struct CandleBlock {
    mixer: CandleBranch,
    attention: CandleAttention,
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

/// Attention before its output projection.
struct CandleAttention {
    q: CandleProjection,
    k: CandleProjection,
    v: CandleProjection,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    heads: Heads,
}

impl CandleBlock {
    /// A copy on `device`, with its matrices in `dtype`.
    pub fn new(block: &block::Block, device: &Device, dtype: DType) -> Result<Self> {
        let linear = |linear| CandleProjection::new(linear, device, dtype);
        let (attention, feed_forward) = (&block.mixer.layers, &block.feed_forward.layers);
        Ok(Self {
            mixer: CandleBranch::new(&block.mixer, device, dtype)?,
            attention: CandleAttention {
                q: linear(&attention.q)?,
                k: linear(&attention.k)?,
                v: linear(&attention.v)?,
                q_norm: copied(attention.q_norm.as_ref(), device)?,
                k_norm: copied(attention.k_norm.as_ref(), device)?,
                heads: attention.heads,
            },
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
        adapters: &CandleAdapters,
        rotations: Option<&Rotations>,
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let n = self.mixer.input(x)?;
        let attended = self.attention.forward(&n, adapters, rotations, attend)?;
        let mid = self.mixer.add(x, &attended, adapters)?;

        let m = self.feed_forward.input(&mid)?;
        let gate = adapters.apply(&self.gate, &m)?;
        let gate = match self.activation {
            Activation::Silu => gate.silu()?,
            Activation::Gelu => gelu(&gate)?,
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

impl CandleAttention {
    fn forward(
        &self,
        n: &Tensor,
        adapters: &CandleAdapters,
        rotations: Option<&Rotations>,
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let by_head = |x: &Tensor, n: usize| x.reshape(((), n, self.heads.head_dim));
        let q = normed_parts(self.q_norm.as_ref(), adapters.apply(&self.q, n)?)?;
        let k = normed_parts(self.k_norm.as_ref(), adapters.apply(&self.k, n)?)?;
        let mut q = by_head(&q, self.heads.n_head)?;
        let mut k = by_head(&k, self.heads.n_head_kv)?;
        let v = by_head(&adapters.apply(&self.v, n)?, self.heads.n_head_kv)?;
        if let Some(rotations) = rotations {
            q = rotations.q.forward(&q)?;
            k = rotations.k.forward(&k)?;
        }
        attend(&q, &k, &v)
    }
}

/// A copy of a norm on `device`.
fn copied(norm: Option<&RmsNorm>, device: &Device) -> Result<Option<Norm>> {
    norm.map(|norm| Norm::new(norm, device)).transpose()
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
