//! Measures the change that an adapter makes to a weight, `lora_scale · B A`, without computing the product.

use super::LoraPair;
use crate::error::Result;

/// The Frobenius inner product of `B₁ A₁` and `B₂ A₂`, computed as `Σ (A₁ A₂ᵀ) ∘ (B₁ᵀ B₂)` from two matrices of
/// `r₁ × r₂` in f64. The inner product of a pair with itself is the square of its Frobenius norm.
///
/// # Errors
///
/// The errors of [`LoraPair::a`].
///
/// # Panics
///
/// If the pairs have different shapes.
pub fn inner_product(one: &impl LoraPair, other: &impl LoraPair) -> Result<f64> {
    assert_eq!(
        (one.n_in(), one.n_out()),
        (other.n_in(), other.n_out()),
        "pairs of one tensor"
    );
    let (rank, other_rank) = (one.rank(), other.rank());
    let mut products_a = vec![0.0; rank * other_rank];
    let (a, other_a) = (one.a()?, other.a()?);
    let other_rows = || other_a.chunks_exact(other.n_in());
    let pairs = a
        .chunks_exact(one.n_in())
        .flat_map(|row| other_rows().map(move |it| (row, it)));
    for (sum, (x, y)) in products_a.iter_mut().zip(pairs) {
        *sum = dot(x, y);
    }
    let mut products_b = vec![0.0; rank * other_rank];
    let (b, other_b) = (one.b()?, other.b()?);
    for (x, y) in b.chunks_exact(rank).zip(other_b.chunks_exact(other_rank)) {
        let products = x
            .iter()
            .flat_map(|x| y.iter().map(|y| f64::from(*x) * f64::from(*y)));
        products_b
            .iter_mut()
            .zip(products)
            .for_each(|(sum, product)| *sum += product);
    }
    Ok(products_a.iter().zip(&products_b).map(|(a, b)| a * b).sum())
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter()
        .zip(y)
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{LoraTensor, Matrix};

    #[test]
    fn the_inner_product_equals_that_of_the_full_matrices() {
        let pair = |rank: usize, turn: f32| {
            let matrix = |rows: usize, cols: usize| Matrix {
                rows,
                cols,
                data: (0..rows * cols).map(|i| (i as f32 * turn).cos()).collect(),
            };
            LoraTensor {
                name: "t".into(),
                a: matrix(rank, 7),
                b: matrix(5, rank),
            }
        };
        let product = |pair: &LoraTensor, row: usize, col: usize| -> f64 {
            let term = |r: usize| pair.b.data[row * pair.rank() + r] * pair.a.data[r * 7 + col];
            (0..pair.rank()).map(|r| f64::from(term(r))).sum()
        };
        let (x, y) = (pair(2, 0.7), pair(3, 1.3));
        let places = (0..5).flat_map(|row| (0..7).map(move |col| (row, col)));
        let direct: f64 = places
            .map(|(row, col)| product(&x, row, col) * product(&y, row, col))
            .sum();
        assert!((inner_product(&x, &y).unwrap() - direct).abs() < 1e-5);
    }
}
