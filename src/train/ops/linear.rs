//! The frozen linear layer: `y = x Wᵀ`, with a gradient for `x` alone.
//!
//! candle's matmul computes the gradients of both operands, so a frozen weight would cost a third of the work and an
//! f32 gradient of its own size, thrown away. Here `dx = dy W`, and `W` has none.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::matrix::{Into, Matrix, MatrixMut, matmul};
use super::{contiguous, map_f32};

/// A frozen weight, `[out, in]` row-major, shared by the passes that use it.
#[derive(Clone)]
pub struct FrozenWeight {
    data: Arc<Vec<f32>>,
    n_out: usize,
    n_in: usize,
}

impl FrozenWeight {
    /// From `[out, in]` row-major values.
    pub fn new(data: Vec<f32>, n_out: usize, n_in: usize) -> Self {
        assert_eq!(data.len(), n_out * n_in, "a weight of another shape");
        Self {
            data: Arc::new(data),
            n_out,
            n_in,
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
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.n_in..(index + 1) * self.n_in]
    }

    /// `x Wᵀ` for `x` `[t, in]`; `[t, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(FrozenLinear(self.clone()))
    }

    /// `out = x Wᵀ` on slices: `[t, in]` → `[t, out]`.
    pub(super) fn apply(&self, x: &[f32], out: &mut [f32]) {
        let t = x.len() / self.n_in;
        let weight = Matrix::new(&self.data, self.n_out, self.n_in);
        matmul(
            &mut MatrixMut::new(out, t, self.n_out),
            Into::Set,
            1.0,
            Matrix::new(x, t, self.n_in),
            weight.t(),
            true,
        );
    }

    /// `out = dy W` on slices: `[t, out]` → `[t, in]`.
    pub(super) fn apply_transposed(&self, dy: &[f32], out: &mut [f32]) {
        let t = dy.len() / self.n_out;
        let weight = Matrix::new(&self.data, self.n_out, self.n_in);
        matmul(
            &mut MatrixMut::new(out, t, self.n_in),
            Into::Set,
            1.0,
            Matrix::new(dy, t, self.n_out),
            weight,
            true,
        );
    }
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
