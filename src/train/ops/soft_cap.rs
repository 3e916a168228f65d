//! The soft cap of Gemma 2: `y = c · tanh(x / c)`, which is close to `x` where `x` is small beside the cap `c`, and never
//! exceeds `±c`.
//!
//! The gradient is `dx = dy · (1 − (y / c)²)`.

use super::vector::tanh;

/// A soft cap, whose value is `c`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftCap(pub f32);

impl SoftCap {
    /// Caps the values of `x` in place.
    pub fn forward(self, x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = self.0 * tanh(*x / self.0));
    }

    /// The derivatives `dy / dx`, from the capped values `y`.
    pub fn slopes(self, y: &[f32]) -> Vec<f32> {
        let slope = |y: &f32| 1.0 - (y / self.0).powi(2);
        y.iter().map(slope).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    #[test]
    fn gradient_is_the_finite_difference_and_the_cap_holds() {
        let (x, dy, cap) = (values(300, 1), values(300, 2), SoftCap(0.7));
        let capped = |x: &[f32]| {
            let mut y = x.to_vec();
            cap.forward(&mut y);
            y
        };
        let slopes = cap.slopes(&capped(&x));
        let dx: Vec<f32> = std::iter::zip(&dy, slopes)
            .map(|(dy, slope)| dy * slope)
            .collect();
        assert_gradient(&x, &dy, &dx, capped);
        for (x, y) in [(0.01, 0.01), (100.0, 0.7), (-100.0, -0.7)] {
            assert!((capped(&[x])[0] - y).abs() < 1e-5);
        }
    }
}
