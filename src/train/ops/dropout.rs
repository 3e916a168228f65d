//! Dropout (Srivastava et al. 2014): `y = x ∘ m / (1 − p)`, where each element of `m` is 0 with probability `p`, else
//! 1. Its gradient is the same operation on `dy`.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

/// A dropout mask. An element depends only on these values and on its place in the matrix, so the backward pass draws
/// the mask again instead of keeping it.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// `p`, in [0, 1).
    pub rate: f32,
    /// Seed of the random numbers.
    pub seed: u64,
    /// The stream of the seed's random numbers that the mask is drawn from.
    pub stream: u64,
}

impl Dropout {
    /// A copy of `x`, `[t, width]`, with dropout.
    pub fn dropped(self, x: &[f32], width: usize) -> Vec<f32> {
        let mut x = x.to_vec();
        self.apply(&mut x, width);
        x
    }

    /// Applies dropout to `x`, `[t, width]`, in place.
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
    fn dropout_zeroes_its_part_keeps_the_mean_and_repeats() {
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
