//! Why a token was chosen.

use super::Candidate;
use crate::llama::Token;

/// A choice, explained. Probabilities are the models' own: of all tokens, at temperature 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What was chosen.
    pub token: Token,
    /// Its score before penalties and temperature: the user model's logit, less α times the base's.
    pub score: f32,
    /// `p_user` of it; of a single model, that model's.
    pub p_user: f32,
    /// `p_base` of it; `None` of a single model.
    pub p_base: Option<f32>,
    /// How many tokens were plausible.
    pub n_plausible: usize,
    /// The token that the user model finds likeliest, of those that grammar and bias allow.
    pub first: Token,
}

/// Explains choices of the next token of one text.
pub(super) struct Explainer<'a> {
    user: Probabilities<'a>,
    base: Option<Probabilities<'a>>,
    n_plausible: usize,
    first: Token,
}

impl<'a> Explainer<'a> {
    /// By the logits of the user model, or of the one model that speaks, and of the base.
    pub fn new(user: &'a [f32], base: Option<&'a [f32]>, n_plausible: usize, first: Token) -> Self {
        Self {
            user: Probabilities::of(user),
            base: base.map(Probabilities::of),
            n_plausible,
            first,
        }
    }

    /// As if `candidate` had been chosen.
    pub fn explain(&self, candidate: Candidate) -> Choice {
        Choice {
            token: candidate.token,
            score: candidate.score,
            p_user: self.user.of_token(candidate.token),
            p_base: self.base.as_ref().map(|it| it.of_token(candidate.token)),
            n_plausible: self.n_plausible,
            first: self.first,
        }
    }
}

/// Logits with what makes probabilities of them.
struct Probabilities<'a> {
    logits: &'a [f32],
    max: f32,
    sum: f64,
}

impl<'a> Probabilities<'a> {
    /// Of `logits`, unnormalised.
    fn of(logits: &'a [f32]) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights = logits.iter().map(|logit| f64::from(logit - max).exp());
        let sum = weights.sum();
        Self { logits, max, sum }
    }

    /// That of a token.
    fn of_token(&self, token: Token) -> f32 {
        let logit = self.logits[token as usize];
        (f64::from(logit - self.max).exp() / self.sum) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        let logits = [0.2_f32, 0.5, 0.3].map(|p| p.ln() + 40.0);
        for (token, p) in (0..).zip([0.2, 0.5, 0.3]) {
            assert!((Probabilities::of(&logits).of_token(token) - p).abs() < 1e-5);
        }
    }
}
