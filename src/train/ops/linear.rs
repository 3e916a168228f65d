//! Linear layers with a frozen weight and, where the layer is adapted, a LoRA pair: `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`.
//!
//! The gradients are `dx = dy W + s (dy B) A`, `dA = s (dy B)ᵀ x` and `dB = s dyᵀ (x Aᵀ)`. None is computed for `W` and
//! `b`: that of `W` would take a third of a step's multiplications and an f32 matrix of `W`'s size, for nothing.

mod bf16;
mod f32;

use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::dropout::Dropout;
use super::low_rank;
use super::matrix::Into;
use super::stored::Stored;

/// The type that frozen weights are held and multiplied in while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// The exact values of the file: 4 bytes a parameter.
    F32,
    /// Rounded to bf16, as are the rows that they are multiplied by: 2 bytes a parameter. Fastest where the CPU has
    /// instructions for bf16. On a GPU the products are rounded to bf16 too, except for the logits, whose weights are
    /// f32.
    Bf16,
    /// Quantised as in the file, and rounded to bf16 anew for every product: the slowest, and the smallest.
    Quantized,
}

impl WeightType {
    /// The type that is fastest on this CPU.
    pub fn fastest() -> Self {
        if super::bf16::is_native() {
            Self::Bf16
        } else {
            Self::F32
        }
    }
}

/// The pair of matrices that a LoRA adapter adds to a frozen weight.
pub struct LowRank<'a> {
    /// `A`: `[rank, in]`.
    pub a: &'a [f32],
    /// `B`: `[out, rank]`.
    pub b: &'a [f32],
    /// `lora_alpha / rank`.
    pub lora_scale: f32,
    /// Dropout of `x` on its way into `A`.
    pub dropout: Option<Dropout>,
}

impl LowRank<'_> {
    fn scaled(&self, mut low: Vec<f32>) -> Vec<f32> {
        low.iter_mut().for_each(|x| *x *= self.lora_scale);
        low
    }
}

/// A way of holding and multiplying a weight. Without an adapter, `low` and `d_low` are empty.
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
    /// Converts the weight of a file to `weight_type`.
    pub fn new(stored: Stored, weight_type: WeightType) -> Self {
        let (n_out, n_in) = (stored.n_out(), stored.n_in());
        let weight: Arc<dyn Multiply> = match weight_type {
            WeightType::F32 => Arc::new(f32::Dense::new(&stored)),
            WeightType::Bf16 => Arc::new(bf16::Packed::new(&stored)),
            WeightType::Quantized => Arc::new(stored),
        };
        Self {
            weight,
            bias: None,
            n_out,
            n_in,
        }
    }

    /// Adds a bias, `[out]`, which is frozen too.
    ///
    /// # Panics
    /// The bias has another length.
    #[must_use]
    pub fn with_bias(self, bias: Vec<f32>) -> Self {
        assert_eq!(bias.len(), self.n_out, "the bias has another length");
        Self {
            bias: Some(Arc::new(bias)),
            ..self
        }
    }

    /// The bias, `[out]`, if the layer has one.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(|bias| bias.as_slice())
    }

    /// Number of output features.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Number of input features.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Row `index` of the weight, `[in]`: one token's embedding, if the weight is an embedding table.
    pub fn row(&self, index: usize) -> Vec<f32> {
        self.weight.row(index)
    }

    /// `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`, or `y += …`: `[t, in]` → `[t, out]`. Returns `s (x Aᵀ)`, `[t, rank]`, which the
    /// gradient of `B` needs; it is empty without an adapter.
    pub fn forward(
        &self,
        x: &[f32],
        lora: Option<&LowRank>,
        into: Into,
        y: &mut [f32],
    ) -> Vec<f32> {
        let mut into = into;
        if let Some(bias) = &self.bias {
            y.chunks_exact_mut(self.n_out)
                .for_each(|row| into.store(row, bias.iter().copied()));
            into = Into::Add;
        }
        let Some((lora, dropout)) = with_dropout(lora) else {
            return self.weight.forward(x, lora, into, y);
        };
        self.weight.forward(x, None, into, y);
        let low = lora.scaled(low_rank::project(
            &dropout.dropped(x, self.n_in),
            lora.a,
            self.n_in,
        ));
        let rank = lora.a.len() / self.n_in;
        low_rank::expand(y, &low, &low_rank::transposed(lora.b, rank), self.n_out);
        low
    }

    /// `dx = dy W + s (dy B) A`, or `dx += …`: `[t, out]` → `[t, in]`. Returns `s (dy B)`, `[t, rank]`, which the
    /// gradient of `A` needs; it is empty without an adapter.
    pub fn backward(
        &self,
        dy: &[f32],
        lora: Option<&LowRank>,
        into: Into,
        dx: &mut [f32],
    ) -> Vec<f32> {
        let Some((lora, dropout)) = with_dropout(lora) else {
            return self.weight.backward(dy, lora, into, dx);
        };
        self.weight.backward(dy, None, into, dx);
        let b_t = low_rank::transposed(lora.b, lora.a.len() / self.n_in);
        let d_low = lora.scaled(low_rank::project(dy, &b_t, self.n_out));
        let mut dropped = vec![0.0; dx.len()];
        low_rank::expand(&mut dropped, &d_low, lora.a, self.n_in);
        dropout.apply(&mut dropped, self.n_in);
        Into::Add.store(dx, dropped.into_iter());
        d_low
    }

    /// `dA`, `[rank, in]`, and `dB`, `[out, rank]`. `low` is the result of [`Self::forward`] for `x`, and `d_low` that
    /// of [`Self::backward`] for `dy`.
    pub fn lora_gradients(
        &self,
        lora: &LowRank,
        (x, low): (&[f32], &[f32]),
        (dy, d_low): (&[f32], &[f32]),
    ) -> (Vec<f32>, Vec<f32>) {
        let d_b_t = self.weight.outer(low, dy, self.n_out);
        let d_a = match lora.dropout {
            Some(dropout) => self
                .weight
                .outer(d_low, &dropout.dropped(x, self.n_in), self.n_in),
            None => self.weight.outer(d_low, x, self.n_in),
        };
        (d_a, low_rank::transposed(&d_b_t, self.n_out))
    }
}

fn with_dropout<'l, 'a>(lora: Option<&'l LowRank<'a>>) -> Option<(&'l LowRank<'a>, Dropout)> {
    lora.and_then(|lora| Some((lora, lora.dropout?)))
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    fn low_rank<'a>(a: &'a [f32], b: &'a [f32], dropout: Option<Dropout>) -> LowRank<'a> {
        LowRank {
            a,
            b,
            lora_scale: 0.5,
            dropout,
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        const RANK: usize = 3;
        let (t, n_out, n_in) = (5, 14, 10);
        let stored = Stored::from_values(&values(n_out * n_in, 1), n_out, n_in);
        let weight = FrozenWeight::new(stored, WeightType::F32).with_bias(values(n_out, 2));
        let (x, dy) = (values(t * n_in, 3), values(t * n_out, 4));
        let (a, b) = (values(RANK * n_in, 5), values(RANK * n_out, 6));
        let dropout = Dropout {
            rate: 0.3,
            seed: 1,
            stream: 2,
        };
        for dropout in [None, Some(dropout)] {
            let forward = |x: &[f32], a: &[f32], b: &[f32]| {
                let mut y = vec![0.0; t * n_out];
                let low = weight.forward(x, Some(&low_rank(a, b, dropout)), Into::Set, &mut y);
                (y, low)
            };
            let mut dx = vec![0.0; t * n_in];
            let given = low_rank(&a, &b, dropout);
            let d_low = weight.backward(&dy, Some(&given), Into::Set, &mut dx);
            let low = forward(&x, &a, &b).1;
            let (d_a, d_b) = weight.lora_gradients(&given, (&x, &low), (&dy, &d_low));
            assert_gradient(&x, &dy, &dx, |x| forward(x, &a, &b).0);
            assert_gradient(&a, &dy, &d_a, |a| forward(&x, a, &b).0);
            assert_gradient(&b, &dy, &d_b, |b| forward(&x, &a, b).0);
        }
    }

    /// `y`, `dx`, `dA` and `dB` of an adapted layer.
    fn results(weight_type: WeightType, (t, n_out, n_in): (usize, usize, usize)) -> Vec<Vec<f32>> {
        const RANK: usize = 3;
        let stored = Stored::from_values(&values(n_out * n_in, 1), n_out, n_in);
        let weight = FrozenWeight::new(stored, weight_type).with_bias(values(n_out, 2));
        let (a, b) = (values(RANK * n_in, 3), values(RANK * n_out, 4));
        let lora = LowRank {
            a: &a,
            b: &b,
            lora_scale: 0.5,
            dropout: None,
        };
        let (x, dy) = (values(t * n_in, 5), values(t * n_out, 6));
        let (mut y, mut dx) = (values(t * n_out, 7), values(t * n_in, 8));
        let low = weight.forward(&x, Some(&lora), Into::Add, &mut y);
        let d_low = weight.backward(&dy, Some(&lora), Into::Add, &mut dx);
        let (d_a, d_b) = weight.lora_gradients(&lora, (&x, &low), (&dy, &d_low));
        vec![y, dx, d_a, d_b, weight.row(n_out - 1)]
    }

    #[test]
    fn all_weight_types_agree_up_to_rounding() {
        for shape in [(1, 5, 7), (150, 96, 300), (20, 600, 64)] {
            let [exact, packed, stored] =
                [WeightType::F32, WeightType::Bf16, WeightType::Quantized]
                    .map(|weight_type| results(weight_type, shape));
            for ((exact, packed), stored) in exact.iter().zip(&packed).zip(&stored) {
                let size = exact.iter().map(|x| x * x).sum::<f32>().sqrt();
                let distance = |x: &[f32], y: &[f32]| {
                    let squares = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y));
                    squares.sum::<f32>().sqrt() / size
                };
                assert!(
                    distance(exact, packed) < 0.01,
                    "{}",
                    distance(exact, packed)
                );
                assert!(
                    distance(packed, stored) < 0.003,
                    "{}",
                    distance(packed, stored)
                );
            }
        }
    }
}
