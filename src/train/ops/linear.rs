//! Linear layers with a frozen weight: `y = x Wᵀ + b`, and with a LoRA `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`.
//!
//! `W` has no gradient: a matmul that computed one would spend a third of its work and an f32 matrix of `W`'s own size
//! on what is thrown away. `dx = dy W + s (dy B) A`, `dA = s (dy B)ᵀ x`, `dB = s dyᵀ (x Aᵀ)`.

use super::matrix::Into;
use super::thin;
use super::weight::FrozenWeight;

/// The pair of matrices that a LoRA adds to a frozen weight.
pub struct LowRank<'a> {
    /// `A`: `[rank, in]`.
    pub a: &'a [f32],
    /// `Bᵀ`: `[rank, out]`.
    pub b_t: Vec<f32>,
    /// `lora_alpha / rank`.
    pub lora_scale: f32,
}

/// A linear layer, adapted or not.
pub struct Linear<'a> {
    /// The frozen weight.
    pub weight: &'a FrozenWeight,
    /// What is added to it.
    pub lora: Option<&'a LowRank<'a>>,
}

impl Linear<'_> {
    /// `y = …`, or `y += …`: `[t, in]` → `[t, out]`. Returns `x Aᵀ`, `[t, rank]`, which the gradients of `A` and `B`
    /// want again.
    pub fn forward(&self, x: &[f32], into: Into, y: &mut [f32]) -> Vec<f32> {
        self.weight.apply(x, into, y);
        self.lora.map_or_else(Vec::new, |lora| {
            let low = thin::project(x, lora.a, self.weight.n_in());
            thin::expand(y, lora.lora_scale, &low, &lora.b_t, self.weight.n_out());
            low
        })
    }

    /// [`Self::forward`] into a matrix of its own.
    pub fn apply(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let mut y = vec![0.0; x.len() / self.weight.n_in() * self.weight.n_out()];
        let low = self.forward(x, Into::Set, &mut y);
        (y, low)
    }

    /// `dx = …`, or `dx += …`. Returns `s (dy B)`, `[t, rank]`, for [`Self::lora_gradients`].
    pub fn input_gradient(&self, dy: &[f32], into: Into, dx: &mut [f32]) -> Vec<f32> {
        self.weight.apply_transposed(dy, into, dx);
        self.lora.map_or_else(Vec::new, |lora| {
            let mut d_low = thin::project(dy, &lora.b_t, self.weight.n_out());
            d_low.iter_mut().for_each(|d| *d *= lora.lora_scale);
            thin::expand(dx, 1.0, &d_low, lora.a, self.weight.n_in());
            d_low
        })
    }

    /// `dA`, `[rank, in]`, and `dB`, `[out, rank]`; `low` and `d_low` as the other two returned them.
    pub fn lora_gradients(
        &self,
        x: &[f32],
        low: &[f32],
        dy: &[f32],
        d_low: &[f32],
    ) -> Option<(Vec<f32>, Vec<f32>)> {
        let lora = self.lora?;
        let n_out = self.weight.n_out();
        let d_a = thin::reduce(1.0, d_low, x, self.weight.n_in());
        let d_b_t = thin::reduce(lora.lora_scale, low, dy, n_out);
        Some((d_a, thin::transposed(&d_b_t, n_out)))
    }
}
