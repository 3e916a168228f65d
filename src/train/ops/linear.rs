//! Linear layers with a frozen weight: `y = x Wᵀ + b`, and with a LoRA `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`.
//!
//! candle's matmul computes the gradients of both operands, so a frozen weight would cost a third of the work and an
//! f32 gradient of its own size, thrown away. Here `W` has none: `dx = dy W + s (dy B) A`, `dA = s (dy B)ᵀ x`,
//! `dB = s dyᵀ (x Aᵀ)`.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::matrix::{Into, Matrix, MatrixMut, matmul};
use super::{contiguous, map_f32, map_f32s, thin};

/// A frozen weight, shared by the passes that use it.
///
/// Its transpose lies in memory, `[in, out]` row-major: the forward pass, which mining and measuring do alone, then
/// reads it as it is, where `gemm` would first copy it into another order (38 % of the time of mining).
#[derive(Clone)]
pub struct FrozenWeight {
    data: Arc<Vec<f32>>,
    /// `[out]`
    bias: Option<Arc<Vec<f32>>>,
    n_out: usize,
    n_in: usize,
}

impl FrozenWeight {
    /// From `[out, in]` row-major values.
    ///
    /// # Panics
    /// There are more or fewer than `n_out · n_in`.
    pub fn new(data: &[f32], n_out: usize, n_in: usize) -> Self {
        assert_eq!(data.len(), n_out * n_in, "a weight of another shape");
        Self {
            data: Arc::new(transpose(data, n_in)),
            bias: None,
            n_out,
            n_in,
        }
    }

    /// With a bias, `[out]`, frozen too.
    #[must_use]
    pub fn with_bias(self, bias: Vec<f32>) -> Self {
        assert_eq!(bias.len(), self.n_out, "a bias of another shape");
        Self {
            bias: Some(Arc::new(bias)),
            ..self
        }
    }

    /// Number of output features.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Number of input features.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Row `index`, `[in]`: an embedding where the weight is a table of them.
    pub fn row(&self, index: usize) -> impl Iterator<Item = f32> {
        self.data[index..].iter().step_by(self.n_out).copied()
    }

    /// `Wᵀ`: `[in, out]`.
    fn transposed(&self) -> Matrix<'_> {
        Matrix::new(&self.data, self.n_in, self.n_out)
    }

    /// `x Wᵀ`, plus what the LoRA adds, for `x` `[t, in]`; `[t, out]`.
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

    /// `out = x Wᵀ + b` on slices: `[t, in]` → `[t, out]`.
    pub(super) fn apply(&self, x: &[f32], out: &mut [f32]) {
        let t = x.len() / self.n_in;
        let into = match &self.bias {
            None => Into::Set,
            Some(bias) => {
                out.chunks_exact_mut(self.n_out)
                    .for_each(|row| row.copy_from_slice(bias));
                Into::Add
            }
        };
        matmul(
            &mut MatrixMut::new(out, t, self.n_out),
            into,
            1.0,
            Matrix::new(x, t, self.n_in),
            self.transposed(),
            true,
        );
    }

    /// `out = dy W` on slices: `[t, out]` → `[t, in]`.
    pub(super) fn apply_transposed(&self, dy: &[f32], out: &mut [f32]) {
        let t = dy.len() / self.n_out;
        matmul(
            &mut MatrixMut::new(out, t, self.n_in),
            Into::Set,
            1.0,
            Matrix::new(dy, t, self.n_out),
            self.transposed().t(),
            true,
        );
    }
}

/// `[rows, width]` row-major → `[width, rows]` row-major, by tiles that fit the cache.
fn transpose(data: &[f32], width: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let rows = data.len() / width;
    let mut transposed = vec![0.0; data.len()];
    transposed
        .par_chunks_mut(TILE * rows)
        .enumerate()
        .for_each(|(tile, columns)| {
            let first = tile * TILE;
            for start in (0..rows).step_by(TILE) {
                for (offset, column) in columns.chunks_exact_mut(rows).enumerate() {
                    for row in start..rows.min(start + TILE) {
                        column[row] = data[row * width + first + offset];
                    }
                }
            }
        });
    transposed
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
        let t = x.len() / self.0.n_in;
        let mut y = vec![0.0; t * self.0.n_out];
        self.0.apply(x, &mut y);
        Ok((CpuStorage::F32(y), (t, self.0.n_out).into()))
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
        let (n_in, n_out) = (self.weight.n_in, self.weight.n_out);
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
        let (n_in, n_out, scale) = (self.weight.n_in, self.weight.n_out, self.lora_scale);
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
