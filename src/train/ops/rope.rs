//! Rotary position embedding (Su et al. 2021): pair `i` of each head's features is rotated by the angle
//! `position · frequency_i`, and multiplied by a magnitude.
//!
//! The gradient of `x` is that of the result, rotated by the opposite angle and multiplied by the same magnitude.

use std::sync::Arc;

use rayon::prelude::*;

use super::ROWS;

/// Which features of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `(x₂ᵢ, x₂ᵢ₊₁)`: the order of features in GGUF files of the architecture `llama`.
    Adjacent,
    /// `(xᵢ, xᵢ₊ₙ)`, `n = n_rot / 2`: the order in the other architectures.
    Halves,
}

/// The rotations of the rows of one batch.
#[derive(Clone)]
pub struct Rope {
    /// The angles' (cos, sin) times the magnitude, `[t, n_rot / 2]`.
    rotations: Vec<(f32, f32)>,
    pairs: Pairs,
    head_dim: usize,
    n_rot: usize,
}

impl Rope {
    /// The rotations of rows at `positions`, `[t]`, with `frequencies`, `[n_rot / 2]`, in radians a position. Rotated
    /// features are multiplied by `magnitude`.
    pub fn new(
        positions: &[usize],
        (frequencies, magnitude): (&[f32], f32),
        pairs: Pairs,
        head_dim: usize,
    ) -> Self {
        let turn = |&position: &usize| {
            frequencies.iter().map(move |frequency| {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                (magnitude * cos, magnitude * sin)
            })
        };
        let rotations = positions.iter().flat_map(turn).collect();
        Self {
            rotations,
            pairs,
            head_dim,
            n_rot: 2 * frequencies.len(),
        }
    }

    /// The same rotations with the features of each row multiplied by a factor of the row's, `[t]`.
    #[must_use]
    pub fn times(mut self, factors: &[f32]) -> Self {
        let rows = self.rotations.chunks_exact_mut(self.n_rot / 2);
        for (row, factor) in rows.zip(factors) {
            row.iter_mut().for_each(|(cos, sin)| {
                *cos *= factor;
                *sin *= factor;
            });
        }
        self
    }

    /// The angles' (cos, sin) times the magnitude, `[t, n_rot / 2]`.
    pub fn rotations(&self) -> &[(f32, f32)] {
        &self.rotations
    }

    /// Which features of a head make a pair.
    pub fn pairs(&self) -> Pairs {
        self.pairs
    }

    /// Number of a head's features that are rotated, the first ones.
    pub fn n_rot(&self) -> usize {
        self.n_rot
    }

    /// Rotates the rows of `x`, `[t, n_head · head_dim]`, in place.
    pub fn forward(&self, x: &mut [f32]) {
        self.rotate(x, 1.0);
    }

    /// Replaces the gradient of the result by that of `x`.
    pub fn backward(&self, dy: &mut [f32]) {
        self.rotate(dy, -1.0);
    }

    /// Rotates by the angles times `sign`, which is 1 or −1.
    fn rotate(&self, rows: &mut [f32], sign: f32) {
        let half = self.n_rot / 2;
        let t = self.rotations.len() / half;
        rows.par_chunks_mut(rows.len() / t.max(1))
            .zip(self.rotations.par_chunks(half))
            .with_min_len(ROWS)
            .for_each(|(row, rotations)| {
                for head in row.chunks_exact_mut(self.head_dim) {
                    let turned = &mut head[..self.n_rot];
                    match self.pairs {
                        Pairs::Adjacent => {
                            for (pair, &(cos, sin)) in turned.chunks_exact_mut(2).zip(rotations) {
                                (pair[0], pair[1]) = turn(pair[0], pair[1], cos, sign * sin);
                            }
                        }
                        Pairs::Halves => {
                            let (first, second) = turned.split_at_mut(half);
                            for ((x, y), &(cos, sin)) in first.iter_mut().zip(second).zip(rotations)
                            {
                                (*x, *y) = turn(*x, *y, cos, sign * sin);
                            }
                        }
                    }
                }
            });
    }
}

/// The rotations of a block's queries and of its keys. They are the same, except where the queries have a temperature that
/// depends on their position.
#[derive(Clone)]
pub struct Ropes {
    /// The rotations of the queries.
    pub q: Arc<Rope>,
    /// The rotations of the keys.
    pub k: Arc<Rope>,
}

fn turn(x: f32, y: f32, cos: f32, sin: f32) -> (f32, f32) {
    (x * cos - y * sin, x * sin + y * cos)
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    #[test]
    fn gradient_is_the_finite_difference() {
        for pairs in [Pairs::Adjacent, Pairs::Halves] {
            // Six of a head's eight features are rotated.
            let rope = Rope::new(&[0, 3, 90], (&[1.0, 0.3, 0.01], 1.3), pairs, 8);
            let rope = rope.times(&[1.0, 0.8, 1.1]);
            let (x, dy) = (values(3 * 16, 1), values(3 * 16, 2));
            let mut dx = dy.clone();
            rope.backward(&mut dx);
            assert_gradient(&x, &dy, &dx, |x| {
                let mut y = x.to_vec();
                rope.forward(&mut y);
                y
            });
        }
    }
}
