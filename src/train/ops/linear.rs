//! Linear layers with a frozen weight, adapted or not: `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`.
//!
//! `W` has no gradient: a matmul that computed one would spend a third of its work and an f32 matrix of `W`'s own size
//! on what is thrown away. `dx = dy W + s (dy B) A`, `dA = s (dy B)ᵀ x`, `dB = s dyᵀ (x Aᵀ)`.

mod bf16;
mod f32;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::matrix::Into;

/// The type that weights are held and multiplied in while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// As the file's values are: 4 bytes a parameter.
    F32,
    /// Rounded to bf16, as is what meets them: 4 bytes a parameter, since the orders of the forward and of the backward
    /// pass are both kept. Faster where the CPU multiplies bf16 by itself.
    Bf16,
}

impl WeightType {
    /// The faster of them on this CPU.
    pub fn fastest() -> Self {
        if super::bf16::is_native() {
            Self::Bf16
        } else {
            Self::F32
        }
    }
}

/// The pair of matrices that a LoRA adds to a frozen weight.
pub struct LowRank<'a> {
    /// `A`: `[rank, in]`.
    pub a: &'a [f32],
    /// `B`: `[out, rank]`.
    pub b: &'a [f32],
    /// `lora_alpha / rank`.
    pub lora_scale: f32,
}

impl LowRank<'_> {
    fn scaled(&self, mut low: Vec<f32>) -> Vec<f32> {
        low.iter_mut().for_each(|x| *x *= self.lora_scale);
        low
    }
}

/// How a weight is held and multiplied. Of no adapter, `low` and `d_low` are empty.
trait Multiply: Send + Sync {
    /// `y = x Wᵀ + low Bᵀ`, or `y += …`: `[t, in]` → `[t, out]`. Returns `low = s (x Aᵀ)`, `[t, rank]`.
    fn forward(&self, x: &[f32], lora: Option<&LowRank>, into: Into, y: &mut [f32]) -> Vec<f32>;

    /// `dx = dy W + d_low A`, or `dx += …`: `[t, out]` → `[t, in]`. Returns `d_low = s (dy B)`, `[t, rank]`.
    fn backward(&self, dy: &[f32], lora: Option<&LowRank>, into: Into, dx: &mut [f32]) -> Vec<f32>;

    /// `lowᵀ rows`: `[t, rank]ᵀ · [t, width]` → `[rank, width]`.
    fn outer(&self, low: &[f32], rows: &[f32], width: usize) -> Vec<f32>;

    /// Row `index` of `W`, `[in]`.
    fn row(&self, index: usize) -> Vec<f32>;
}

/// A frozen weight, shared by the passes that use it.
#[derive(Clone)]
pub struct FrozenWeight {
    weight: Arc<dyn Multiply>,
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
    pub fn new(weight: &[f32], n_out: usize, n_in: usize, weight_type: WeightType) -> Self {
        assert_eq!(weight.len(), n_out * n_in, "a weight of another shape");
        let weight: Arc<dyn Multiply> = match weight_type {
            WeightType::F32 => Arc::new(f32::Dense::new(weight, n_out, n_in)),
            WeightType::Bf16 => Arc::new(bf16::Packed::new(weight, n_in)),
        };
        Self {
            weight,
            bias: None,
            n_out,
            n_in,
        }
    }

    /// With a bias, `[out]`, frozen too.
    ///
    /// # Panics
    /// It has another length.
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
        self.weight.row(index)
    }

    /// `y = …`, or `y += …`: `[t, in]` → `[t, out]`. Returns `s (x Aᵀ)`, `[t, rank]`, which the gradient of `B` wants
    /// again; of no adapter, nothing.
    pub fn forward(
        &self,
        x: &[f32],
        lora: Option<&LowRank>,
        into: Into,
        y: &mut [f32],
    ) -> Vec<f32> {
        let Some(bias) = &self.bias else {
            return self.weight.forward(x, lora, into, y);
        };
        y.chunks_exact_mut(self.n_out)
            .for_each(|row| into.store(row, bias.iter().copied()));
        self.weight.forward(x, lora, Into::Add, y)
    }

    /// `dx = …`, or `dx += …`: `[t, out]` → `[t, in]`. Returns `s (dy B)`, `[t, rank]`, which the gradient of `A` wants
    /// again; of no adapter, nothing.
    pub fn backward(
        &self,
        dy: &[f32],
        lora: Option<&LowRank>,
        into: Into,
        dx: &mut [f32],
    ) -> Vec<f32> {
        self.weight.backward(dy, lora, into, dx)
    }

    /// `dA`, `[rank, in]`, and `dB`, `[out, rank]`, from what [`Self::forward`] and [`Self::backward`] returned.
    pub fn lora_gradients(
        &self,
        (x, low): (&[f32], &[f32]),
        (dy, d_low): (&[f32], &[f32]),
    ) -> (Vec<f32>, Vec<f32>) {
        let d_b_t = self.weight.outer(low, dy, self.n_out);
        (
            self.weight.outer(d_low, x, self.n_in),
            super::thin::transposed(&d_b_t, self.n_out),
        )
    }
}
