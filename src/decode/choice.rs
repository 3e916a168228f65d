//! Why a token was chosen.

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

/// The probability of `token` among `logits`, unnormalised.
pub(super) fn probability(logits: &[f32], token: Token) -> f32 {
    Probabilities::of(logits).of_token(token)
}

/// Logits with what makes probabilities of them.
pub(super) struct Probabilities<'a> {
    logits: &'a [f32],
    max: f32,
    sum: f64,
}

impl<'a> Probabilities<'a> {
    /// Of `logits`, unnormalised.
    pub fn of(logits: &'a [f32]) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights = logits.iter().map(|logit| f64::from(logit - max).exp());
        let sum = weights.sum();
        Self { logits, max, sum }
    }

    /// That of a token.
    pub fn of_token(&self, token: Token) -> f32 {
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
            assert!((probability(&logits, token) - p).abs() < 1e-5);
        }
    }
}
