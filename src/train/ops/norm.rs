//! Root-mean-square normalisation (Zhang & Sennrich 2019) of each row: `y = x / √(mean(x²) + ε) · w`, with `w` frozen.
//!
//! The gradient, with `s = 1 / √(mean(x²) + ε)` and `g = dy · w`: `dx = s · g − x · s³ · mean(g · x)`.

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
    /// A normalisation with `w = weight`, `[d]`, and `ε = epsilon`.
    pub fn new(weight: Vec<f32>, epsilon: f32) -> Self {
        Self { weight, epsilon }
    }

    /// `w`, `[d]`.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// `ε`.
    pub fn epsilon(&self) -> f32 {
        self.epsilon
    }

    /// The normalised rows: `[t, d]` → `[t, d]`.
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

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    #[test]
    fn gradient_is_the_finite_difference() {
        let norm = RmsNorm::new(values(24, 1), 1e-5);
        let (x, dy) = (values(7 * 24, 2), values(7 * 24, 3));
        let mut dx = vec![0.0; x.len()];
        norm.backward(&x, &dy, Into::Set, &mut dx);
        assert_gradient(&x, &dy, &dx, |x| norm.forward(x));
    }

    #[test]
    fn normalised_rows_have_a_mean_square_of_one() {
        let norm = RmsNorm::new(vec![1.0; 16], 0.0);
        for row in norm.forward(&values(5 * 16, 4)).chunks(16) {
            assert!((dot(row, row) - 16.0).abs() < 1e-4);
        }
    }
}
