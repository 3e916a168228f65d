//! Root-mean-square normalisation: `y = x / √(mean(x²) + ε) · w`, over rows, with `w` frozen.
//!
//! With `s = 1 / √(mean(x²) + ε)` and `g = dy · w`: `dx = s · g − x · s³ · mean(g · x)`.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{contiguous, dot, map_f32};

/// A normalisation with its frozen weight.
#[derive(Clone)]
pub struct RmsNorm {
    weight: Arc<Vec<f32>>,
    epsilon: f32,
}

impl RmsNorm {
    /// `weight`: `[d]`.
    pub fn new(weight: Vec<f32>, epsilon: f32) -> Self {
        Self {
            weight: Arc::new(weight),
            epsilon,
        }
    }

    /// `[t, d]` → `[t, d]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(self.clone())
    }

    fn inverse_rms(&self, row: &[f32]) -> f32 {
        (dot(row, row) / row.len() as f32 + self.epsilon)
            .sqrt()
            .recip()
    }
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let d = self.weight.len();
        let mut y = contiguous(storage, layout)?.to_vec();
        y.par_chunks_mut(d).for_each(|row| {
            let s = self.inverse_rms(row);
            row.iter_mut()
                .zip(&*self.weight)
                .for_each(|(x, w)| *x *= s * w);
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let d = self.weight.len();
        let mut dx = map_f32(dy, <[f32]>::to_vec)?;
        map_f32(x, |x| {
            dx.par_chunks_mut(d)
                .zip(x.par_chunks(d))
                .for_each(|(g, x)| {
                    let s = self.inverse_rms(x);
                    g.iter_mut().zip(&*self.weight).for_each(|(g, w)| *g *= w);
                    let pull = s * s * dot(g, x) / d as f32;
                    g.iter_mut()
                        .zip(x)
                        .for_each(|(g, x)| *g = s * (*g - x * pull));
                });
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
