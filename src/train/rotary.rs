//! The rotary embedding that a file describes: the frequencies of the feature pairs, and the factors of the rotated
//! features.
//!
//! Pair `i` is rotated by `position · θᵢ`, where `θᵢ = base^(−2i / n_rot)`, divided by a divisor of its own in Llama 3.
//! Scaling by a factor stretches this to longer contexts:
//!
//! ```text
//! linear:  θᵢ / factor
//! YaRN:    θᵢ (kᵢ + (1 − kᵢ) / factor)
//! ```
//!
//! `YaRN` (Peng et al. 2023, arXiv 2309.00071) keeps the fast pairs: `kᵢ` falls linearly from 1 to 0 between the pair that
//! turns `beta_fast` times within the original context and the one that turns `beta_slow` times. Everything is computed
//! as llama.cpp does.

use std::f32::consts::PI;

/// The rotary embedding of a block.
#[derive(Clone, Copy, Debug)]
pub struct RopeSettings {
    /// Number of features of a head.
    pub head_dim: usize,
    /// Number of a head's features that are rotated.
    pub n_rot: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Factor of the scaling; 1 for none.
    pub factor: f32,
    /// Factor of the rotated features, of queries and keys alike.
    pub magnitude: f32,
    /// `YaRN`, if the scaling is not linear.
    pub yarn: Option<Yarn>,
}

/// The ramp of `YaRN`.
#[derive(Clone, Copy, Debug)]
pub struct Yarn {
    /// Number of positions of the original context.
    pub n_ctx: usize,
    /// Turns within the original context of the last pair that keeps its frequency.
    pub beta_fast: f32,
    /// Turns within the original context of the first pair whose frequency is divided by the whole factor.
    pub beta_slow: f32,
}

impl RopeSettings {
    /// The frequencies, `[n_rot / 2]`, in radians a position. `divisors`, `[n_rot / 2]`, are those of the pairs.
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f32> {
        let ramp = self.yarn.map(|yarn| yarn.ramp(self.n_rot, self.base));
        let frequency = |i: usize| {
            let divisor = divisors.map_or(1.0, |divisors| divisors[i]);
            let plain = self.base.powf(-2.0 * i as f32 / self.n_rot as f32);
            let stretched = plain / self.factor / divisor;
            let Some((first, last)) = ramp else {
                return stretched;
            };
            let kept = 1.0 - ((i as f32 - first) / (last - first).max(1e-3)).clamp(0.0, 1.0);
            plain / divisor * kept + stretched * (1.0 - kept)
        };
        (0..self.n_rot / 2).map(frequency).collect()
    }

    /// The same without scaling.
    #[must_use]
    pub fn unscaled(self) -> Self {
        Self {
            factor: 1.0,
            yarn: None,
            ..self
        }
    }
}

impl Yarn {
    /// The pairs between which the ramp falls.
    fn ramp(self, n_rot: usize, base: f32) -> (f32, f32) {
        let turning = |turns: f32| {
            n_rot as f32 * (self.n_ctx as f32 / (turns * 2.0 * PI)).ln() / (2.0 * base.ln())
        };
        let (first, last) = (turning(self.beta_fast), turning(self.beta_slow));
        (first.floor().max(0.0), last.ceil().min((n_rot - 1) as f32))
    }

    /// The factor of the rotated features: `(0.1 ln factor + 1) / (0.1 m ln factor + 1)`, with `m` the `log_multiplier`,
    /// and 1 for a factor that stretches nothing.
    pub fn magnitude(factor: f32, log_multiplier: f32) -> f32 {
        let growth = |multiplier: f32| 0.1 * multiplier * factor.ln() + 1.0;
        if factor > 1.0 {
            growth(1.0) / growth(log_multiplier)
        } else {
            1.0
        }
    }
}

/// The temperature of attention: queries at position `p` are multiplied by `1 + scale · ln(⌊p / n_ctx⌋ + 1)`.
#[derive(Clone, Copy, Debug)]
pub struct Temperature {
    /// `scale`
    pub scale: f32,
    /// `n_ctx`, at least 1.
    pub n_ctx: usize,
}

impl Temperature {
    /// The factors of the queries at `positions`, `[t]`.
    pub fn factors(self, positions: &[usize]) -> Vec<f32> {
        let factor =
            |position: &usize| 1.0 + self.scale * ((position / self.n_ctx + 1) as f32).ln();
        positions.iter().map(factor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yarn: Option<Yarn>) -> RopeSettings {
        RopeSettings {
            head_dim: 64,
            n_rot: 64,
            base: 10_000.0,
            factor: 4.0,
            magnitude: 1.0,
            yarn,
        }
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_stretches_slow_ones() {
        let yarn = Yarn {
            n_ctx: 2048,
            beta_fast: 32.0,
            beta_slow: 1.0,
        };
        let plain = settings(None).unscaled().frequencies(None);
        let linear = settings(None).frequencies(None);
        let scaled = settings(Some(yarn)).frequencies(None);
        // Pair 8 turns 32.6 times within 2048 positions, and pair 21 turns 0.8 times.
        for i in 0..32 {
            let turns = 2048.0 * plain[i] / (2.0 * PI);
            let same = |x: f32| (scaled[i] / x - 1.0).abs() < 1e-6;
            assert_eq!(same(plain[i]), turns > 32.0, "{i}, {turns}");
            assert_eq!(same(linear[i]), turns < 1.0, "{i}, {turns}");
        }
        let halved = settings(Some(yarn)).frequencies(Some(&[2.0; 32]));
        assert!((0..32).all(|i| (2.0 * halved[i] / scaled[i] - 1.0).abs() < 1e-6));
        assert!((Yarn::magnitude(4.0, 0.0) - 1.138_629_4).abs() < 1e-6);
        for (factor, multiplier) in [(4.0, 1.0), (1.0, 0.0), (0.5, 0.0)] {
            assert!((Yarn::magnitude(factor, multiplier) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn the_temperature_rises_with_each_original_context() {
        let temperature = Temperature {
            scale: 0.5,
            n_ctx: 8,
        };
        let factors = temperature.factors(&[0, 7, 8, 15, 24]);
        let expected = [1.0, 1.0, 1.346_573_6, 1.346_573_6, 1.693_147_2];
        let pairs = factors.iter().zip(expected);
        assert!(pairs.into_iter().all(|(x, y)| (x - y).abs() < 1e-6));
    }
}
