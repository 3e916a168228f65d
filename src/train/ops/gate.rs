//! The gate of the feed-forward block: `y = f(gate) · up`, with `f` the `SiLU` or the GELU.
//!
//! `d gate = dy · up · f′(gate)`, `d up = dy · f(gate)`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{contiguous, map_f32, map_f32s};

/// Values that one thread takes at a time.
const CHUNK: usize = 4096;

/// The function of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x σ(x)`
    Silu,
    /// `x (1 + tanh u) / 2`, `u = √(2/π) (x + 0.044715 x³)`: the approximation that the models were trained with.
    Gelu,
}

impl Activation {
    /// `f(x)` and `f′(x)`.
    fn value_and_slope(self, x: f32) -> (f32, f32) {
        match self {
            Self::Silu => {
                let s = (1.0 + (-x).exp()).recip();
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Self::Gelu => {
                const CUBIC: f32 = 0.044_715;
                let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
                let t = (root * x * (1.0 + CUBIC * x * x)).tanh();
                let slope_of_u = root * (1.0 + 3.0 * CUBIC * x * x);
                (
                    0.5 * x * (1.0 + t),
                    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope_of_u,
                )
            }
        }
    }
}

/// `gate`, `up`: of one shape; the result's too.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    gate.contiguous()?
        .apply_op2(&up.contiguous()?, Gated(activation))
}

struct Gated(Activation);

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mut y, up) = (contiguous(s1, l1)?.to_vec(), contiguous(s2, l2)?);
        y.par_chunks_mut(CHUNK)
            .zip(up.par_chunks(CHUNK))
            .for_each(|(gate, up)| {
                gate.iter_mut()
                    .zip(up)
                    .for_each(|(gate, up)| *gate = self.0.value_and_slope(*gate).0 * up);
            });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut d_gate = map_f32(dy, <[f32]>::to_vec)?;
        let mut d_up = d_gate.clone();
        map_f32s([gate, up], |[gate, up]| {
            let chunks = d_gate.par_chunks_mut(CHUNK).zip(d_up.par_chunks_mut(CHUNK));
            chunks
                .zip(gate.par_chunks(CHUNK))
                .zip(up.par_chunks(CHUNK))
                .for_each(|(((dg, du), gate), up)| {
                    for (((dg, du), gate), up) in dg.iter_mut().zip(du).zip(gate).zip(up) {
                        let (value, slope) = self.0.value_and_slope(*gate);
                        *dg *= up * slope;
                        *du *= value;
                    }
                });
        })?;
        let tensor = |data| Tensor::from_vec(data, gate.shape(), gate.device());
        Ok((Some(tensor(d_gate)?), Some(tensor(d_up)?)))
    }
}
