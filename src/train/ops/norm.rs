//! Root-mean-square normalisation: `y = x / √(mean(x²) + ε) · w`, over rows, with `w` frozen.
//!
//! With `s = 1 / √(mean(x²) + ε)` and `g = dy · w`: `dx = s · g − x · s³ · mean(g · x)`.

use rayon::prelude::*;

use super::ROWS;
use super::matrix::Into;
use super::vector::dot;

/// A normalisation with its frozen weight.
pub struct RmsNorm {
    weight: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    /// `weight`: `[d]`.
    pub fn new(weight: Vec<f32>, epsilon: f32) -> Self {
        Self { weight, epsilon }
    }

    /// `[t, d]` → `[t, d]`.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        let rows = y.par_chunks_mut(self.weight.len()).with_min_len(ROWS);
        rows.for_each(|row| {
            let s = self.inverse_rms(row);
            row.iter_mut()
                .zip(&self.weight)
                .for_each(|(x, w)| *x *= s * w);
        });
        y
    }

    /// `dx = …`, or `dx += …`; `x`, `dy`, `dx`: `[t, d]`.
    pub fn backward(&self, x: &[f32], dy: &[f32], into: Into, dx: &mut [f32]) {
        let d = self.weight.len();
        dx.par_chunks_mut(d)
            .zip(x.par_chunks(d))
            .zip(dy.par_chunks(d))
            .with_min_len(ROWS)
            .for_each_init(
                || vec![0.0; d],
                |g, ((dx, x), dy)| {
                    let s = self.inverse_rms(x);
                    let scaled = dy.iter().zip(&self.weight).map(|(dy, w)| dy * w);
                    g.iter_mut().zip(scaled).for_each(|(g, scaled)| *g = scaled);
                    let pull = s * s * dot(g, x) / d as f32;
                    let gradient = g.iter().zip(x).map(|(g, x)| s * (g - x * pull));
                    into.store(dx, gradient);
                },
            );
    }

    fn inverse_rms(&self, row: &[f32]) -> f32 {
        (dot(row, row) / row.len() as f32 + self.epsilon)
            .sqrt()
            .recip()
    }
}
