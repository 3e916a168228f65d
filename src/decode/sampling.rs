//! How a token is chosen among the candidates.

use crate::llama::{Link, SamplerChain};
use crate::{Error, Result};

/// Settings of llama.cpp's samplers, by its names and meanings. They act on contrasted scores, in this order:
/// penalties, top-k, top-p, min-p, temperature, draw. The default chooses greedily and penalises nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Above 0: draw, flatter the higher; 0: take the best, of equals the lowest token.
    pub temperature: f32,
    /// Draw among the `k` best; 0 for no limit.
    pub top_k: u32,
    /// Draw among the best whose probabilities sum to this; 1 for no limit.
    pub top_p: f32,
    /// Draw among those at least so probable, relative to the best; 0 for no limit.
    pub min_p: f32,
    /// Divides the positive scores of the last tokens, multiplies the negative ones; 1 for none.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalties see, prompt included.
    pub repeat_last_n: u32,
    /// Subtracted from the score of each of the last tokens, once.
    pub presence_penalty: f32,
    /// Subtracted from the score of each of the last tokens, once per occurrence.
    pub frequency_penalty: f32,
    /// Seed of the draws: the same seed, model and prompt give the same text. `u32::MAX` stands for a new seed each
    /// time, as llama.cpp's −1.
    pub seed: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 42,
        }
    }
}

impl Sampling {
    /// The settings as a chain for a vocabulary of `n_vocab` tokens and a context of `n_ctx`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] naming a setting that is out of its range.
    pub fn chain(&self, n_vocab: usize, n_ctx: usize) -> Result<SamplerChain> {
        self.check()?;
        let mut links = vec![Link::Penalties {
            // llama.cpp reserves a ring of this length, and no more tokens than the context's ever count.
            last_n: self.repeat_last_n.min(n_ctx as u32),
            repeat: self.repeat_penalty,
            frequency: self.frequency_penalty,
            presence: self.presence_penalty,
        }];
        if self.temperature > 0.0 {
            if self.top_k > 0 {
                links.push(Link::TopK(self.top_k));
            }
            links.extend([
                Link::TopP(self.top_p),
                Link::MinP(self.min_p),
                Link::Temperature(self.temperature),
                Link::Draw { seed: self.seed },
            ]);
        } else {
            links.push(Link::Greedy);
        }
        Ok(SamplerChain::new(n_vocab, &links))
    }

    fn check(&self) -> Result<()> {
        let probability = 0.0..=1.0;
        let checks = [
            (
                "temperature",
                self.temperature,
                self.temperature >= 0.0,
                "0 or more",
            ),
            (
                "top-p",
                self.top_p,
                probability.contains(&self.top_p),
                "from 0 to 1",
            ),
            (
                "min-p",
                self.min_p,
                probability.contains(&self.min_p),
                "from 0 to 1",
            ),
            (
                "repeat penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0,
                "above 0",
            ),
            ("presence penalty", self.presence_penalty, true, "a number"),
            (
                "frequency penalty",
                self.frequency_penalty,
                true,
                "a number",
            ),
        ];
        for (name, value, in_range, range) in checks {
            if !value.is_finite() || !in_range {
                return Err(Error::input(format!(
                    "the {name} must be {range}, not {value}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::{Candidate, Token};

    fn draws(sampling: &Sampling, scores: &[f32]) -> Vec<Token> {
        let candidates: Vec<_> = (0..)
            .zip(scores)
            .map(|(token, &score)| Candidate { token, score })
            .collect();
        let mut chain = sampling.chain(scores.len(), 256).unwrap();
        let draw = |_| {
            let token = chain.choose(&candidates);
            chain.accept(token);
            token
        };
        (0..100).map(draw).collect()
    }

    #[test]
    fn the_default_is_greedy_and_penalises_nothing() {
        assert_eq!(draws(&Sampling::default(), &[1.0, 2.0, 2.0, 0.0]), [1; 100]);
    }

    #[test]
    fn a_seed_repeats_its_draws() {
        let seeded = |seed| Sampling {
            temperature: 1.0,
            seed,
            ..Sampling::default()
        };
        let scores = [1.0, 2.0, 1.5, 0.0];
        assert_eq!(draws(&seeded(3), &scores), draws(&seeded(3), &scores));
        assert_ne!(draws(&seeded(3), &scores), draws(&seeded(4), &scores));
    }

    #[test]
    fn a_penalty_moves_greedy_on() {
        let sampling = Sampling {
            repeat_penalty: 2.0,
            repeat_last_n: 1,
            ..Sampling::default()
        };
        assert_eq!(draws(&sampling, &[2.0, 1.5, 0.0])[..4], [0, 1, 0, 1]);
        let huge = Sampling {
            repeat_last_n: u32::MAX,
            presence_penalty: 9.0,
            ..Sampling::default()
        };
        assert_eq!(draws(&huge, &[2.0, 1.5, 0.0])[..4], [0, 1, 2, 0]);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let bad = [
            Sampling {
                temperature: -1.0,
                ..Sampling::default()
            },
            Sampling {
                temperature: f32::NAN,
                ..Sampling::default()
            },
            Sampling {
                top_p: 1.5,
                ..Sampling::default()
            },
            Sampling {
                min_p: -0.5,
                ..Sampling::default()
            },
            Sampling {
                repeat_penalty: 0.0,
                ..Sampling::default()
            },
            Sampling {
                presence_penalty: f32::INFINITY,
                ..Sampling::default()
            },
            Sampling {
                frequency_penalty: f32::NAN,
                ..Sampling::default()
            },
        ];
        for sampling in bad {
            assert!(
                matches!(sampling.chain(4, 256), Err(Error::Input(_))),
                "{sampling:?}"
            );
        }
    }
}
