//! What an adapter adds to a weight, `lora_scale · B A`, measured without computing it.

use super::LoraPair;
use crate::error::Result;

/// The inner product of `B₁ A₁` and `B₂ A₂`, `Σ (A₁ A₂ᵀ) ∘ (B₁ᵀ B₂)`; a pair's with itself is the square of its
/// Frobenius norm. In f64, from two matrices of `r₁ × r₂`.
///
/// # Errors
///
/// As [`LoraPair::a`].
///
/// # Panics
///
/// If the pairs are of different shapes.
pub fn inner_product(one: &impl LoraPair, other: &impl LoraPair) -> Result<f64> {
    assert_eq!(
        (one.n_in(), one.n_out()),
        (other.n_in(), other.n_out()),
        "pairs of one tensor"
    );
    let (rank, other_rank) = (one.rank(), other.rank());
    let mut of_a = vec![0.0; rank * other_rank];
    let (a, other_a) = (one.a()?, other.a()?);
    let other_rows = || other_a.chunks_exact(other.n_in());
    let pairs = a
        .chunks_exact(one.n_in())
        .flat_map(|row| other_rows().map(move |it| (row, it)));
    for (sum, (x, y)) in of_a.iter_mut().zip(pairs) {
        *sum = dot(x, y);
    }
    let mut of_b = vec![0.0; rank * other_rank];
    let (b, other_b) = (one.b()?, other.b()?);
    for (x, y) in b.chunks_exact(rank).zip(other_b.chunks_exact(other_rank)) {
        let products = x
            .iter()
            .flat_map(|x| y.iter().map(|y| f64::from(*x) * f64::from(*y)));
        of_b.iter_mut()
            .zip(products)
            .for_each(|(sum, product)| *sum += product);
    }
    Ok(of_a.iter().zip(&of_b).map(|(a, b)| a * b).sum())
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
    fn is_that_of_the_products() {
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
