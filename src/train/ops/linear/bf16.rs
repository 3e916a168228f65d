//! Weights in bf16 panels. What meets them is rounded to bf16 too, the adapters' matrices among it, which are two more
//! terms of the same products.

use super::super::bf16::RoundedRows;
use super::super::matrix::Into;
use super::super::panels::{Panels, product};
use super::{LowRank, Multiply};

/// A weight and its transpose.
pub struct Packed {
    weight: Panels,
    transposed: Panels,
    n_in: usize,
}

impl Packed {
    /// From `[out, in]` row-major values.
    pub fn new(weight: &[f32], n_in: usize) -> Self {
        Self {
            weight: Panels::of_rows(weight, n_in),
            transposed: Panels::of_columns(weight, n_in),
            n_in,
        }
    }
}

impl Multiply for Packed {
    fn forward(&self, x: &[f32], lora: Option<&LowRank>, into: Into, y: &mut [f32]) -> Vec<f32> {
        let x = RoundedRows::new(x, self.n_in);
        let Some(lora) = lora else {
            product(&[(&x, &self.weight)], into, y);
            return Vec::new();
        };
        let rank = lora.a.len() / self.n_in;
        let mut low = vec![0.0; x.n_rows() * rank];
        product(
            &[(&x, &Panels::of_rows(lora.a, self.n_in))],
            Into::Set,
            &mut low,
        );
        let low = lora.scaled(low);
        let b = (
            &RoundedRows::new(&low, rank),
            &Panels::of_rows(lora.b, rank),
        );
        product(&[(&x, &self.weight), b], into, y);
        low
    }

    fn backward(&self, dy: &[f32], lora: Option<&LowRank>, into: Into, dx: &mut [f32]) -> Vec<f32> {
        let t = dx.len() / self.n_in;
        let dy = RoundedRows::new(dy, dy.len() / t);
        let Some(lora) = lora else {
            product(&[(&dy, &self.transposed)], into, dx);
            return Vec::new();
        };
        let rank = lora.a.len() / self.n_in;
        let mut d_low = vec![0.0; t * rank];
        product(
            &[(&dy, &Panels::of_columns(lora.b, rank))],
            Into::Set,
            &mut d_low,
        );
        let d_low = lora.scaled(d_low);
        let a = (
            &RoundedRows::new(&d_low, rank),
            &Panels::of_columns(lora.a, self.n_in),
        );
        product(&[(&dy, &self.transposed), a], into, dx);
        d_low
    }

    fn outer(&self, low: &[f32], rows: &[f32], width: usize) -> Vec<f32> {
        let rank = low.len() * width / rows.len();
        let mut out = vec![0.0; rank * width];
        let low = RoundedRows::transposed(low, rank);
        product(
            &[(&low, &Panels::of_columns(rows, width))],
            Into::Set,
            &mut out,
        );
        out
    }

    fn row(&self, index: usize) -> Vec<f32> {
        self.weight.row(index)
    }
}
