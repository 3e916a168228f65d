//! The choice of a token among the candidates.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::repetition::Unrepeated;
use super::{Candidate, contrast};
use crate::llama::{Grammar, Link, SamplerChain, Token};
use crate::{Error, Result};

/// Settings of llama.cpp's samplers, with its names and meanings. They act on contrasted scores in this order: penalties,
/// top-k, typical, top-p (nucleus), min-p, temperature, draw. The default is greedy and has no penalties.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The temperature of the draw; 0 takes the candidate of the highest score, the lowest token among equals.
    pub temperature: f32,
    /// Draw among this many candidates of the highest scores; 0 for no limit.
    pub top_k: u32,
    /// Draw among the candidates whose information is nearest to the entropy, until their probabilities sum to this
    /// (locally typical sampling); 1 for no limit.
    pub typical: f32,
    /// Draw among the likeliest candidates whose probabilities sum to this (nucleus sampling); 1 for no limit.
    pub top_p: f32,
    /// Draw among the candidates at least this probable relative to the likeliest; 0 for no limit.
    pub min_p: f32,
    /// Divides the positive scores of the last tokens and multiplies the negative ones; 1 for no penalty.
    pub repeat_penalty: f32,
    /// The number of last tokens, prompt included, that the penalties apply to.
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
            typical: 1.0,
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
    /// The temperature at which [`again`](Self::again) draws where answers are greedy, unless a person sets another.
    pub const AGAIN_TEMPERATURE: f32 = 0.7;

    /// A seed that is drawn, for an answer that nobody has given one. It is never `u32::MAX`, which stands for any seed.
    #[must_use]
    pub fn new_seed() -> u32 {
        rand::random_range(0..u32::MAX)
    }

    /// The seed that comes `n` after this one. It is never `u32::MAX`, which stands for any seed, unless this one is.
    #[must_use]
    pub fn nth_seed(&self, n: u32) -> u32 {
        if self.seed == u32::MAX {
            return self.seed;
        }
        let seed = u64::from(self.seed) + u64::from(n);
        (seed % u64::from(u32::MAX)) as u32
    }

    /// The settings of another answer to messages that were answered `n_answers` times, at least once: with the seed that
    /// comes `n_answers` after this one, and at `temperature` where these settings are greedy, since another seed alone would
    /// then give the same answer.
    #[must_use]
    pub fn again(self, n_answers: u32, temperature: f32) -> Self {
        let is_greedy = self.temperature <= 0.0;
        Self {
            seed: self.nth_seed(n_answers.max(1)),
            temperature: if is_greedy {
                temperature
            } else {
                self.temperature
            },
            ..self
        }
    }

    /// A sampler of these settings for a vocabulary of `n_vocab` tokens and a context of `n_ctx`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] naming a setting that is out of its range.
    pub fn sampler(&self, n_vocab: usize, n_ctx: usize) -> Result<Sampler> {
        self.check()?;
        let mut links = Vec::new();
        if self.penalises() {
            links.push(Link::Penalties {
                // llama.cpp reserves a ring of this length, and no more tokens than the context's ever count.
                last_n: self.repeat_last_n.min(n_ctx as u32),
                repeat: self.repeat_penalty,
                frequency: self.frequency_penalty,
                presence: self.presence_penalty,
            });
        }
        if self.temperature > 0.0 {
            if self.top_k > 0 {
                links.push(Link::TopK(self.top_k));
            }
            links.extend([
                Link::Typical(self.typical),
                Link::TopP(self.top_p),
                Link::MinP(self.min_p),
                Link::Temperature(self.temperature),
            ]);
        }
        let seed = match self.seed {
            u32::MAX => Self::new_seed(),
            seed => seed,
        };
        Ok(Sampler {
            chain: SamplerChain::new(n_vocab, &links),
            seed: (self.temperature > 0.0).then_some(seed),
            logit_bias: Vec::new(),
            unrepeated: None,
            grammar: None,
            left: Vec::new(),
            row: Vec::new(),
        })
    }

    /// Whether the candidate of the highest score is always chosen, so that the others can be left out.
    #[must_use]
    pub fn takes_the_best(&self) -> bool {
        self.temperature == 0.0 && !self.penalises()
    }

    fn penalises(&self) -> bool {
        let none = [1.0, 0.0, 0.0];
        let penalties = [
            self.repeat_penalty,
            self.presence_penalty,
            self.frequency_penalty,
        ];
        penalties
            .iter()
            .zip(none)
            .any(|(it, none)| (it - none).abs() > 0.0)
    }

    /// Checks that each setting is in its range.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] naming the first setting that is not.
    pub fn check(&self) -> Result<()> {
        let probability = 0.0..=1.0;
        let checks = [
            (
                "temperature",
                self.temperature,
                self.temperature >= 0.0,
                "0 or more",
            ),
            (
                "typical",
                self.typical,
                probability.contains(&self.typical),
                "from 0 to 1",
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

/// Finds candidates and chooses among them. Its random numbers are a function of (seed, position). So a choice depends on
/// earlier tokens only through the penalties, the grammar and the banned n-grams, and not on what was tried and discarded.
#[derive(Debug, Clone)]
pub struct Sampler {
    chain: SamplerChain,
    /// Seed of the draws; `None` takes the candidate of the highest score.
    seed: Option<u32>,
    logit_bias: Vec<(Token, f32)>,
    unrepeated: Option<Unrepeated>,
    grammar: Option<Grammar>,
    /// Scratch space for the candidates that the chain leaves, kept for its allocation.
    left: Vec<Candidate>,
    /// Scratch space for biased logits, `[n_vocab]`, kept for its allocation.
    row: Vec<f32>,
}

impl Sampler {
    /// Adds these biases to the user model's logits before anything else; −∞ bans a token.
    #[must_use]
    pub fn with_logit_bias(self, logit_bias: Vec<(Token, f32)>) -> Self {
        Self { logit_bias, ..self }
    }

    /// Bans tokens that would complete an n-gram that the answer has already; 0 bans none. Bans come before the choice of
    /// plausible tokens, since inside a loop only the token that continues it is plausible.
    #[must_use]
    pub fn with_no_repeat_ngram(self, n: usize) -> Self {
        let unrepeated = (n > 0).then(|| Unrepeated::new(n));
        Self { unrepeated, ..self }
    }

    /// Restricts the candidates to tokens that continue a text of `grammar`.
    #[must_use]
    pub fn with_grammar(self, grammar: Option<Grammar>) -> Self {
        Self { grammar, ..self }
    }

    /// Feeds a token of the prompt to the penalties.
    pub fn accept_prompt(&mut self, token: Token) {
        self.chain.accept(token);
    }

    /// Feeds the accepted `token` to every stateful sampler.
    ///
    /// # Errors
    ///
    /// [`Error::Llama`] if the grammar does not allow it.
    pub fn accept(&mut self, token: Token) -> Result<()> {
        self.chain.accept(token);
        if let Some(unrepeated) = &mut self.unrepeated {
            unrepeated.accept(token);
        }
        self.grammar
            .as_mut()
            .map_or(Ok(()), |grammar| grammar.accept(token))
    }

    /// Fills `candidates` with `V_head` of the user model's unnormalised `logits`, `[n_vocab]`: among the tokens that the
    /// grammar allows, those at least `plausibility` times as probable as the likeliest of them. Their scores are the
    /// logits.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if every token, or every token that the grammar allows, is banned; [`Error::Contrast`] if the model's
    /// own logits have no candidate.
    pub fn head(
        &mut self,
        logits: &[f32],
        plausibility: f32,
        candidates: &mut Vec<Candidate>,
    ) -> Result<()> {
        let banned = self.unrepeated.iter().flat_map(Unrepeated::banned);
        let banned = banned.map(|token| (token, f32::NEG_INFINITY));
        let mut biases = self.logit_bias.iter().copied().chain(banned).peekable();
        let unbiased = logits;
        let logits = if biases.peek().is_none() {
            logits
        } else {
            self.row.clear();
            self.row.extend_from_slice(logits);
            for (token, bias) in biases {
                self.row[token as usize] += bias;
            }
            &self.row
        };
        if contrast::head(logits, plausibility, candidates).is_err() {
            // The model's own logits are at fault if they have no candidate without the biases either.
            contrast::head(unbiased, plausibility, candidates)?;
            return Err(all_banned("every token"));
        }
        let Some(grammar) = &mut self.grammar else {
            return Ok(());
        };
        let likeliest = best(candidates).token;
        grammar.filter(candidates);
        if candidates.iter().any(|it| it.token == likeliest) {
            return Ok(());
        }
        // Plausibility is relative to the likeliest token that is allowed, which can be anywhere in the vocabulary.
        contrast::head(logits, 0.0, candidates)?;
        grammar.filter(candidates);
        let mut allowed = vec![f32::NEG_INFINITY; logits.len()];
        for candidate in &*candidates {
            allowed[candidate.token as usize] = candidate.score;
        }
        contrast::head(&allowed, plausibility, candidates)
            .map_err(|_| all_banned("all that the grammar allows here"))
    }

    /// Chooses the token at `position` of the text among `candidates`; among equal scores, the lowest token.
    ///
    /// # Panics
    ///
    /// If there is no candidate.
    pub fn choose(&mut self, candidates: &[Candidate], position: usize) -> Token {
        assert!(
            !candidates.is_empty(),
            "a token is chosen among at least one"
        );
        self.left.clear();
        self.left.extend_from_slice(candidates);
        self.chain.apply(&mut self.left);
        let best = best(&self.left);
        match self.seed {
            None => best.token,
            Some(seed) => draw(&self.left, best.score, uniform(seed, position)),
        }
    }
}

/// The error of a text whose every possible token is banned.
fn all_banned(tokens: &str) -> Error {
    Error::input(format!(
        "the answer cannot go on: {tokens} is banned, by a logit bias or because it would repeat an n-gram"
    ))
}

/// The candidate of the highest score; among equals, the lowest token.
pub(super) fn best(candidates: &[Candidate]) -> Candidate {
    let better = |best: Candidate, next: Candidate| {
        let is_better = (next.score, best.token) > (best.score, next.token);
        if is_better { next } else { best }
    };
    let best = candidates.iter().copied().reduce(better);
    best.expect("samplers leave one candidate at least")
}

/// Draws with `p(y) ∝ exp(score(y))`: returns the first candidate at which the cumulative probability exceeds `uniform`,
/// which is in [0, 1). `best` is the highest score.
fn draw(candidates: &[Candidate], best: f32, uniform: f64) -> Token {
    let weight = |candidate: &Candidate| f64::from(candidate.score - best).exp();
    let mut rest = uniform * candidates.iter().map(weight).sum::<f64>();
    for candidate in candidates {
        rest -= weight(candidate);
        if rest < 0.0 {
            return candidate.token;
        }
    }
    // Rounding may leave a small rest after the last candidate.
    candidates[candidates.len() - 1].token
}

/// The random number of a position, uniform in [0, 1).
fn uniform(seed: u32, position: usize) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    rng.set_stream(position as u64);
    rng.random()
}

#[cfg(test)]
mod tests;
