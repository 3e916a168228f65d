//! Operations on the rows of a block: norms, rotations and the logistic function.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::super::ops::norm::RmsNorm;
use super::super::ops::rope::{Pairs, Rope, Ropes};
use super::custom_grad::custom_grad;

/// `σ(x)`, with a gradient of ours.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    let y = (x.detach().neg()?.exp()? + 1.0)?.recip()?;
    let kept = y.clone();
    custom_grad([x], &y, move |dy| {
        let slope = (&kept * (1.0 - &kept)?)?;
        Ok([(dy * slope)?])
    })
}

/// A copy of a norm on `device`.
pub fn copied(norm: Option<&RmsNorm>, device: &Device) -> Result<Option<Norm>> {
    norm.map(|norm| Norm::new(norm, device)).transpose()
}

/// `norm(x)`, or `x` without a norm.
pub fn normed(norm: Option<&Norm>, x: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x),
        None => Ok(x),
    }
}

/// [`normed`] over parts of the rows of `x`, each as long as the norm's weight.
pub fn normed_parts(norm: Option<&Norm>, x: Tensor) -> Result<Tensor> {
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
    /// The queries' rotation.
    pub q: Rotation,
    /// The keys' rotation.
    pub k: Rotation,
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
