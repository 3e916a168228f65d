//! A check of gradients against finite differences, for the tests of the operations.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// `n` random values, uniform in [−1, 1).
pub fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// Checks `gradient`, that of `L(x) = Σ dyᵢ f(x)ᵢ`, in four random directions `d` against the central difference
/// `(L(x + hd) − L(x − hd)) / 2h`.
pub fn assert_gradient(x: &[f32], dy: &[f32], gradient: &[f32], f: impl Fn(&[f32]) -> Vec<f32>) {
    const STEP: f32 = 1e-2;
    for seed in 100..104 {
        let direction = values(x.len(), seed);
        let moved = |step: f32| {
            let x: Vec<f32> = x
                .iter()
                .zip(&direction)
                .map(|(x, d)| x + step * d)
                .collect();
            f(&x)
        };
        let (up, down) = (moved(STEP), moved(-STEP));
        let changes = up.iter().zip(&down).map(|(up, down)| f64::from(up - down));
        let expected: f64 = changes
            .zip(dy)
            .map(|(change, dy)| change * f64::from(*dy))
            .sum();
        let expected = expected / f64::from(2.0 * STEP);
        let products = gradient.iter().zip(&direction);
        let got: f64 = products.map(|(g, d)| f64::from(g * d)).sum();
        let size = gradient
            .iter()
            .map(|g| f64::from(g * g))
            .sum::<f64>()
            .sqrt();
        assert!(
            (got - expected).abs() < 5e-3 * size + 1e-3,
            "{got}, expected {expected}"
        );
        assert!(
            size > 0.1,
            "a gradient too small for the check to mean anything"
        );
    }
}
