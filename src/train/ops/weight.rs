//! Frozen weights, and how they lie in memory.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::matrix::{Into, Matrix, MatrixMut, matmul};
use super::panels::{self, Panels};

/// The type that weights are held and multiplied in while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// As the file's values are: 4 bytes a parameter.
    F32,
    /// Rounded to bf16, as are the activations that meet them: 4 bytes a parameter, since the orders of the forward and
    /// of the backward pass are both kept. Faster where the CPU multiplies bf16 by itself.
    Bf16,
}

impl WeightType {
    /// The faster of them on this CPU.
    pub fn fastest() -> Self {
        if panels::is_native() {
            Self::Bf16
        } else {
            Self::F32
        }
    }
}

/// A frozen weight, shared by the passes that use it.
#[derive(Clone)]
pub struct FrozenWeight {
    data: Data,
    /// `[out]`
    bias: Option<Arc<Vec<f32>>>,
    n_out: usize,
    n_in: usize,
}

#[derive(Clone)]
enum Data {
    /// The transpose, `[in, out]` row-major: the forward pass, which mining and measuring do alone, then reads it as it
    /// is, where `gemm` would first copy it into another order (38 % of the time of mining).
    F32(Arc<Vec<f32>>),
    /// `W` and its transpose.
    Bf16(Arc<[Panels; 2]>),
}

impl FrozenWeight {
    /// From `[out, in]` row-major values.
    ///
    /// # Panics
    /// There are more or fewer than `n_out · n_in`.
    pub fn new(data: &[f32], n_out: usize, n_in: usize, weight_type: WeightType) -> Self {
        assert_eq!(data.len(), n_out * n_in, "a weight of another shape");
        let data = match weight_type {
            WeightType::F32 => Data::F32(Arc::new(transpose(data, n_in))),
            WeightType::Bf16 => Data::Bf16(Arc::new([
                Panels::new(n_out, n_in, |o, i| data[o * n_in + i]),
                Panels::new(n_in, n_out, |i, o| data[o * n_in + i]),
            ])),
        };
        Self {
            data,
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
    pub fn row(&self, index: usize) -> Vec<f32> {
        match &self.data {
            Data::F32(transposed) => transposed[index..]
                .iter()
                .step_by(self.n_out)
                .copied()
                .collect(),
            Data::Bf16(panels) => panels[0].row(index).collect(),
        }
    }

    /// `y = x Wᵀ + b`, or `y += …`: `[t, in]` → `[t, out]`.
    pub fn apply(&self, x: &[f32], into: Into, y: &mut [f32]) {
        let mut into = into;
        if let Some(bias) = &self.bias {
            y.chunks_exact_mut(self.n_out)
                .for_each(|row| into.store(row, bias.iter().copied()));
            into = Into::Add;
        }
        match &self.data {
            Data::F32(transposed) => {
                let weight = Matrix::new(transposed, self.n_in, self.n_out);
                product(x, weight, into, y);
            }
            Data::Bf16(panels) => panels[0].product(x, into, y),
        }
    }

    /// `dx = dy W`, or `dx += …`: `[t, out]` → `[t, in]`.
    pub fn apply_transposed(&self, dy: &[f32], into: Into, dx: &mut [f32]) {
        match &self.data {
            Data::F32(transposed) => {
                let weight = Matrix::new(transposed, self.n_in, self.n_out).t();
                product(dy, weight, into, dx);
            }
            Data::Bf16(panels) => panels[1].product(dy, into, dx),
        }
    }
}

/// `y = x · weight`, or `y += …`, for `x` and `y` of as many rows as they have.
fn product(x: &[f32], weight: Matrix, into: Into, y: &mut [f32]) {
    let (n_in, n_out) = weight.shape();
    let t = x.len() / n_in;
    matmul(
        &mut MatrixMut::new(y, t, n_out),
        into,
        1.0,
        Matrix::new(x, t, n_in),
        weight,
        true,
    );
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
