//! The gate of the feed-forward block: `y = silu(gate) · up`, `silu(x) = x σ(x)`.
//!
//! `d gate = dy · up · σ(gate) (1 + gate (1 − σ(gate)))`, `d up = dy · silu(gate)`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{contiguous, map_f32, map_f32s};

/// Rows of work that one thread takes at a time.
const CHUNK: usize = 4096;

/// `gate`, `up`: of one shape; the result's too.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

fn sigmoid(x: f32) -> f32 {
    (1.0 + (-x).exp()).recip()
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
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
                    .for_each(|(gate, up)| *gate *= sigmoid(*gate) * up);
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
                        let s = sigmoid(*gate);
                        *dg *= up * s * (1.0 + gate * (1.0 - s));
                        *du *= gate * s;
                    }
                });
        })?;
        let tensor = |data| Tensor::from_vec(data, gate.shape(), gate.device());
        Ok((Some(tensor(d_gate)?), Some(tensor(d_up)?)))
    }
}
