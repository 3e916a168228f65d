//! Weights in f32, multiplied by the `gemm` crate.

use rayon::prelude::*;

use super::super::low_rank;
use super::super::matrix::{Into, Matrix, MatrixMut, Workers, matmul};
use super::super::stored::Stored;
use super::{LowRank, Multiply};

/// A weight, held as its transpose `[in, out]`, row-major: the forward pass, which is all of mining and measuring, then
/// reads it in place, where `gemm` would first copy it into another order (38 % of the time of mining).
pub struct Dense {
    transposed: Vec<f32>,
    n_out: usize,
    n_in: usize,
}

impl Dense {
    pub fn new(stored: &Stored) -> Self {
        let (n_out, n_in, strip) = (stored.n_out(), stored.n_in(), stored.strip());
        let mut transposed = vec![0.0; n_out * n_in];
        transposed
            .par_chunks_mut(strip * n_out)
            .enumerate()
            .for_each(|(index, columns)| {
                let first = index * strip;
                let width = columns.len() / n_out;
                let mut row = vec![0.0; width];
                for o in 0..n_out {
                    stored.read(o..o + 1, first..first + width, &mut row);
                    for (column, value) in columns.chunks_exact_mut(n_out).zip(&row) {
                        column[o] = *value;
                    }
                }
            });
        Self {
            transposed,
            n_out,
            n_in,
        }
    }

    /// `Wᵀ`, `[in, out]`.
    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.transposed, self.n_in, self.n_out)
    }
}

impl Multiply for Dense {
    fn forward(&self, x: &[f32], lora: Option<&LowRank>, into: Into, y: &mut [f32]) -> Vec<f32> {
        product(x, self.matrix(), into, y);
        lora.map_or_else(Vec::new, |lora| {
            let low = lora.scaled(low_rank::project(x, lora.a, self.n_in));
            let rank = lora.b.len() / self.n_out;
            low_rank::expand(y, &low, &low_rank::transposed(lora.b, rank), self.n_out);
            low
        })
    }

    fn backward(&self, dy: &[f32], lora: Option<&LowRank>, into: Into, dx: &mut [f32]) -> Vec<f32> {
        product(dy, self.matrix().t(), into, dx);
        lora.map_or_else(Vec::new, |lora| {
            let rank = lora.b.len() / self.n_out;
            let b_t = low_rank::transposed(lora.b, rank);
            let d_low = lora.scaled(low_rank::project(dy, &b_t, self.n_out));
            low_rank::expand(dx, &d_low, lora.a, self.n_in);
            d_low
        })
    }

    fn outer(&self, low: &[f32], rows: &[f32], width: usize) -> Vec<f32> {
        low_rank::outer(low, rows, width)
    }

    fn row(&self, index: usize) -> Vec<f32> {
        let column = self.transposed[index..].iter().step_by(self.n_out);
        column.copied().collect()
    }
}

/// `y = x · weight`, or `y += …`: `[t, in] · [in, out] → [t, out]`.
fn product(x: &[f32], weight: Matrix, into: Into, y: &mut [f32]) {
    let (n_in, n_out) = weight.shape();
    let t = x.len() / n_in;
    matmul(
        &mut MatrixMut::new(y, t, n_out),
        into,
        1.0,
        Matrix::new(x, t, n_in),
        weight,
        Workers::All,
    );
}
