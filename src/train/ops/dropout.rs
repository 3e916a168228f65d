//! Dropout: `y = x ∘ m / (1 − p)`, where each element of `m` is 0 with probability `p`, else 1. Its gradient is the same
//! operation.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

/// One mask: it depends on these values and on the place in the matrix alone, so the backward pass draws it again.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// `p`, in [0, 1).
    pub rate: f32,
    /// Of the random numbers.
    pub seed: u64,
    /// Which of the seed's streams of them.
    pub stream: u64,
}

impl Dropout {
    /// What it leaves of `x`, `[t, width]`.
    pub fn dropped(self, x: &[f32], width: usize) -> Vec<f32> {
        let mut x = x.to_vec();
        self.apply(&mut x, width);
        x
    }

    /// Drops from the rows of `x`, `[t, width]`.
    pub fn apply(self, x: &mut [f32], width: usize) {
        let least = (f64::from(self.rate) * 2f64.powi(32)) as u32;
        let scale = (1.0 - self.rate).recip();
        x.par_chunks_mut(width).enumerate().for_each(|(row, x)| {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(self.stream);
            random.set_word_pos((row * width) as u128);
            for x in x {
                *x = if random.random::<u32>() < least {
                    0.0
                } else {
                    *x * scale
                };
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_its_part_and_keeps_the_mean() {
        let dropout = Dropout {
            rate: 0.25,
            seed: 3,
            stream: 4,
        };
        let mut x = vec![1.0; 64 * 500];
        dropout.apply(&mut x, 64);
        let dropped = x.iter().filter(|x| **x < 0.5).count();
        assert!((7_600..8_400).contains(&dropped), "{dropped} of 32,000");
        assert!(x.iter().all(|x| *x < 0.5 || (x * 0.75 - 1.0).abs() < 1e-6));
        let mut again = vec![1.0; 64 * 500];
        dropout.apply(&mut again, 64);
        assert_eq!(x, again);
        let other = Dropout {
            stream: 5,
            ..dropout
        };
        other.apply(&mut again, 64);
        assert_ne!(x, again);
    }
}
