//! Explanations of choices.

use super::Candidate;
use crate::llama::Token;

/// An explained choice. Probabilities are the models' softmax over all tokens at temperature 1, before grammar and bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The chosen token.
    pub token: Token,
    /// Its score before penalties and temperature: the user model's logit less α times the base's.
    pub score: f32,
    /// Its probability by the user model, or by the only model.
    pub p_user: f32,
    /// Its probability by the base; `None` without contrast.
    pub p_base: Option<f32>,
    /// The number of plausible tokens, among which it was chosen.
    pub n_plausible: usize,
    /// The user model's likeliest token among those that grammar and bias allow.
    pub first: Token,
}

/// A chosen token beside the one that the user model would have chosen without contrast: at the same place, among the same
/// plausible tokens and, at a temperature, by the same draw. Where only one model answers, both are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steered {
    /// The chosen token.
    pub token: Token,
    /// The token without contrast.
    pub alone: Token,
}

impl Steered {
    /// Whether the contrast changed the choice.
    #[must_use]
    pub fn is_changed(self) -> bool {
        self.token != self.alone
    }
}

/// Explains candidates for the next token of one text.
pub(super) struct Explainer<'a> {
    user: Probabilities<'a>,
    base: Option<Probabilities<'a>>,
    n_plausible: usize,
    first: Token,
}

impl<'a> Explainer<'a> {
    /// An explainer from the unnormalised logits, `[n_vocab]`, of the user model (or the only one) and of the base.
    pub fn new(user: &'a [f32], base: Option<&'a [f32]>, n_plausible: usize, first: Token) -> Self {
        Self {
            user: Probabilities::new(user),
            base: base.map(Probabilities::new),
            n_plausible,
            first,
        }
    }

    /// Explains `candidate` as if it had been chosen.
    pub fn explain(&self, candidate: Candidate) -> Choice {
        Choice {
            token: candidate.token,
            score: candidate.score,
            p_user: self.user.get(candidate.token),
            p_base: self.base.as_ref().map(|it| it.get(candidate.token)),
            n_plausible: self.n_plausible,
            first: self.first,
        }
    }
}

/// A softmax over logits, computed for one token at a time.
struct Probabilities<'a> {
    logits: &'a [f32],
    max: f32,
    sum: f64,
}

impl<'a> Probabilities<'a> {
    /// The softmax over unnormalised `logits`.
    fn new(logits: &'a [f32]) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights = logits.iter().map(|logit| f64::from(logit - max).exp());
        let sum = weights.sum();
        Self { logits, max, sum }
    }

    /// The probability of a token.
    fn get(&self, token: Token) -> f32 {
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
            assert!((Probabilities::new(&logits).get(token) - p).abs() < 1e-5);
        }
    }
}
