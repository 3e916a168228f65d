//! Linear layers with a frozen weight: `y = x Wᵀ + b`, and with a LoRA `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`.
//!
//! candle's matmul computes the gradients of both operands, so a frozen weight would cost a third of the work and an
//! f32 gradient of its own size, thrown away. Here `W` has none: `dx = dy W + s (dy B) A`, `dA = s (dy B)ᵀ x`,
//! `dB = s dyᵀ (x Aᵀ)`.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};

use super::weight::FrozenWeight;
use super::{contiguous, map_f32, map_f32s, thin};

impl FrozenWeight {
    /// `x Wᵀ + b`, plus what the LoRA adds, for `x` `[t, in]`; `[t, out]`.
    pub fn forward(&self, x: &Tensor, lora: Option<LowRank>) -> Result<Tensor> {
        let x = x.contiguous()?;
        match lora {
            None => x.apply_op1(FrozenLinear(self.clone())),
            Some(LowRank { a, b, lora_scale }) => x.apply_op3(
                a,
                b,
                AdaptedLinear {
                    weight: self.clone(),
                    lora_scale,
                },
            ),
        }
    }
}

/// The pair of matrices that a LoRA adds to a frozen weight.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// `A`: `[rank, in]`.
    pub a: &'a Tensor,
    /// `B`: `[out, rank]`.
    pub b: &'a Tensor,
    /// `lora_alpha / rank`.
    pub lora_scale: f32,
}

struct FrozenLinear(FrozenWeight);

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(storage, layout)?;
        let t = x.len() / self.0.n_in();
        let mut y = vec![0.0; t * self.0.n_out()];
        self.0.apply(x, &mut y);
        Ok((CpuStorage::F32(y), (t, self.0.n_out()).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0.0; x.elem_count()];
        map_f32(dy, |dy| self.0.apply_transposed(dy, &mut dx))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

struct AdaptedLinear {
    weight: FrozenWeight,
    lora_scale: f32,
}

impl CustomOp3 for AdaptedLinear {
    fn name(&self) -> &'static str {
        "adapted-linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, a, b) = (
            contiguous(s1, l1)?,
            contiguous(s2, l2)?,
            contiguous(s3, l3)?,
        );
        let (n_in, n_out) = (self.weight.n_in(), self.weight.n_out());
        let (t, rank) = (x.len() / n_in, a.len() / n_in);
        let mut y = vec![0.0; t * n_out];
        self.weight.apply(x, &mut y);
        let low = thin::project(x, a, n_in);
        let b = thin::transposed(b, rank);
        thin::expand(&mut y, self.lora_scale, &low, &b, n_out);
        Ok((CpuStorage::F32(y), (t, n_out).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n_in, n_out, scale) = (self.weight.n_in(), self.weight.n_out(), self.lora_scale);
        let rank = a.elem_count() / n_in;
        let (dx, da, db) = map_f32s([x, a, b, dy], |[x, a, b, dy]| {
            let mut dx = vec![0.0; x.len()];
            self.weight.apply_transposed(dy, &mut dx);
            let low = thin::project(x, a, n_in);
            let db = thin::reduce(scale, &low, dy, n_out);
            let mut d_low = thin::project(dy, &thin::transposed(b, rank), n_out);
            d_low.iter_mut().for_each(|d| *d *= scale);
            let da = thin::reduce(1.0, &d_low, x, n_in);
            thin::expand(&mut dx, 1.0, &d_low, a, n_in);
            (dx, da, thin::transposed(&db, n_out))
        })?;
        let tensor = |data, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
        Ok((
            Some(tensor(dx, x)?),
            Some(tensor(da, a)?),
            Some(tensor(db, b)?),
        ))
    }
}
