//! The scores of texts under contrasts, computed from the logits of both models.
//!
//! For a token `y` with logits `u` of the user model and `b` of the base, and for a contrast α:
//!
//! ```text
//! log p(y) = z_y − log Σ_v exp z_v      z = u − α b, over the whole vocabulary
//! ```
//!
//! This is the softmax of `log π_user − α log π_base`, from which `z` differs by a constant. A token is the *best* if
//! decoding would take it: if it has the highest score of the plausible tokens.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::decode::{Candidate, Contrast};
use crate::train::encoder::Encoded;
use crate::train::head::ROWS;
use crate::train::lora::Lora;
use crate::train::model::TrainModel;
use crate::train::ops::vector::softmax;
use crate::train::packing::PackedBatch;
use crate::train::sft;
use crate::{Error, Result};

/// The score of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Its log-probability, in nats.
    pub logprob: f32,
    /// Whether it is the token that decoding takes.
    pub is_best: bool,
}

/// The scores of a text's tokens, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextScore {
    /// The sum of the log-probabilities, in nats.
    pub logprob: f64,
    /// Number of tokens that decoding takes.
    pub n_best: usize,
    /// Number of tokens.
    pub n_tokens: usize,
}

impl TextScore {
    fn add(&mut self, token: TokenScore) {
        self.logprob += f64::from(token.logprob);
        self.n_best += usize::from(token.is_best);
        self.n_tokens += 1;
    }

    /// Whether decoding takes every token, if it is given those before it.
    pub fn is_right(&self) -> bool {
        self.n_best == self.n_tokens
    }
}

/// The scores of a text's tokens, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenScores {
    /// Under the base, `[tokens]`.
    pub base: Vec<TokenScore>,
    /// Under each contrast of an adapter with it, `[contrasts][tokens]`.
    pub contrasted: Vec<Vec<TokenScore>>,
}

/// The scores of some texts, `[texts]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextScores {
    /// Under the base.
    pub base: Vec<TextScore>,
    /// Under each adapter and each contrast, `[adapters][contrasts][texts]`.
    pub contrasted: Vec<Vec<Vec<TextScore>>>,
}

/// Mean log-probability of the texts' tokens, in nats.
pub fn mean_logprob(texts: &[TextScore]) -> f64 {
    let sum: f64 = texts.iter().map(|text| text.logprob).sum();
    sum / n_tokens(texts)
}

/// The share of the texts' tokens that decoding takes.
pub fn accuracy(texts: &[TextScore]) -> f64 {
    let n_best: usize = texts.iter().map(|text| text.n_best).sum();
    n_best as f64 / n_tokens(texts)
}

fn n_tokens(texts: &[TextScore]) -> f64 {
    let n: usize = texts.iter().map(|text| text.n_tokens).sum();
    n.max(1) as f64
}

/// Scores the responses of `texts` under the base, and under every contrast of every adapter with it. Runs each model
/// once on each text, on `per_pass` texts in a pass. `ended` is
/// called after every pass. The logits of at most [`ROWS`] tokens are held at a time.
///
/// # Errors
/// A tensor operation failed, logits are not finite, or `ended` returned an error.
pub fn measure(
    model: &TrainModel,
    (texts, per_pass): (&[Encoded], usize),
    adapters: &[Lora],
    contrasts: &[Contrast],
    ended: &mut dyn FnMut() -> Result<()>,
) -> Result<TextScores> {
    let zeros = vec![TextScore::default(); texts.len()];
    let mut scores = TextScores {
        base: zeros.clone(),
        contrasted: vec![vec![zeros; contrasts.len()]; adapters.len()],
    };
    let add = &mut |text: usize, under: Under, token| match under {
        Under::Base => scores.base[text].add(token),
        Under::Contrast { adapter, contrast } => {
            scores.contrasted[adapter][contrast][text].add(token);
        }
    };
    for_each_token(model, (texts, per_pass), adapters, contrasts, ended, add)?;
    Ok(scores)
}

/// Scores each token of the responses of `texts`, as [`measure`] does. The scores of all tokens are held in memory.
///
/// # Errors
/// Those of [`measure`].
pub fn measure_tokens(
    model: &TrainModel,
    (texts, per_pass): (&[Encoded], usize),
    adapter: &Lora,
    contrasts: &[Contrast],
    ended: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<TokenScores>> {
    let none = TokenScores {
        base: Vec::new(),
        contrasted: vec![Vec::new(); contrasts.len()],
    };
    let mut scores = vec![none; texts.len()];
    let push = &mut |text: usize, under, token| match under {
        Under::Base => scores[text].base.push(token),
        Under::Contrast { contrast, .. } => scores[text].contrasted[contrast].push(token),
    };
    let adapters = std::slice::from_ref(adapter);
    for_each_token(model, (texts, per_pass), adapters, contrasts, ended, push)?;
    Ok(scores)
}

/// The model that has scored a token, by the numbers of the adapter and of the contrast.
#[derive(Clone, Copy)]
enum Under {
    Base,
    Contrast { adapter: usize, contrast: usize },
}

/// Calls `found` with the score of each token, in the order of the tokens of each text, with the number of the text.
fn for_each_token(
    model: &TrainModel,
    (texts, per_pass): (&[Encoded], usize),
    adapters: &[Lora],
    contrasts: &[Contrast],
    ended: &mut dyn FnMut() -> Result<()>,
    found: &mut dyn FnMut(usize, Under, TokenScore),
) -> Result<()> {
    for (first, texts) in (0..).step_by(per_pass).zip(texts.chunks(per_pass)) {
        let batch = sft::batch(texts);
        let mut run = |lora: Option<&Lora>| {
            let states = model.predicting_rows(&batch, lora)?;
            ended()?;
            Ok::<_, Error>(states)
        };
        let base = run(None)?;
        let users = adapters.iter().map(|lora| run(Some(lora)));
        let users = users.collect::<Result<Vec<_>>>()?;
        let found = &mut |text, under, token| found(first + text, under, token);
        score_batch(model, &batch, (&base, &users), contrasts, found)?;
    }
    Ok(())
}

/// [`for_each_token`] for the texts of `batch`. `base` and `users` are the states that the models predict its tokens from,
/// `[r, n_embd]`.
fn score_batch(
    model: &TrainModel,
    batch: &PackedBatch,
    (base, users): (&[f32], &[Vec<f32>]),
    contrasts: &[Contrast],
    found: &mut dyn FnMut(usize, Under, TokenScore),
) -> Result<()> {
    // The text that each row belongs to.
    let responses = batch.responses.iter().enumerate();
    let of_row = responses.flat_map(|(text, rows)| rows.clone().map(move |_| text));
    let of_row: Vec<usize> = of_row.collect();
    let (n_embd, n_rows) = (model.shape().n_embd, of_row.len());
    for start in (0..n_rows).step_by(ROWS) {
        let rows = start..n_rows.min(start + ROWS);
        let logits = |states: &[f32]| {
            let states = &states[rows.start * n_embd..rows.end * n_embd];
            model.head_logits(states.to_vec())
        };
        let (targets, of_row) = (&batch.targets[rows.clone()], &of_row[rows.clone()]);
        let base = logits(base)?;
        // With weight 0 a contrast leaves the first model as it is.
        let alone = [Contrast::new(0.0, 1.0)?];
        for (&text, row) in of_row
            .iter()
            .zip(row_scores(&base, &base, targets, &alone)?)
        {
            row.into_iter()
                .for_each(|token| found(text, Under::Base, token));
        }
        for (adapter, user) in users.iter().enumerate() {
            let rows = row_scores(&logits(user)?, &base, targets, contrasts)?;
            for (&text, row) in of_row.iter().zip(rows) {
                for (contrast, token) in row.into_iter().enumerate() {
                    found(text, Under::Contrast { adapter, contrast }, token);
                }
            }
        }
    }
    Ok(())
}

impl TextScores {
    /// The scores of no texts.
    pub(super) fn new(n_adapters: usize, n_contrasts: usize) -> Self {
        Self {
            base: Vec::new(),
            contrasted: vec![vec![Vec::new(); n_contrasts]; n_adapters],
        }
    }

    /// Adds the scores of further texts under the same adapters and contrasts.
    pub(super) fn append(&mut self, mut further: Self) {
        self.base.append(&mut further.base);
        let of_further = further.contrasted.iter_mut().flatten();
        for (scores, further) in self.contrasted.iter_mut().flatten().zip(of_further) {
            scores.append(further);
        }
    }
}

/// The scores of each row's target under each contrast, `[rows][contrasts]`, from logits `[rows, n_vocab]`.
fn row_scores(
    user: &[f32],
    base: &[f32],
    targets: &[u32],
    contrasts: &[Contrast],
) -> Result<Vec<Vec<TokenScore>>> {
    let n_vocab = user.len() / targets.len().max(1);
    let user = user.par_chunks_exact(n_vocab.max(1));
    let rows = user.zip(base.par_chunks_exact(n_vocab.max(1))).zip(targets);
    rows.map(|((user, base), &target)| token_scores(user, base, target as usize, contrasts))
        .collect()
}

/// The scores of the token `target` under each contrast, from both models' logits, `[n_vocab]`.
///
/// # Errors
/// The logits are not finite.
pub fn token_scores(
    user: &[f32],
    base: &[f32],
    target: usize,
    contrasts: &[Contrast],
) -> Result<Vec<TokenScore>> {
    let mut scores = vec![0.0; user.len()];
    let (mut candidates, mut scratch) = (Vec::new(), Vec::new());
    let score = |contrast: &Contrast| {
        let logits = user.iter().zip(base);
        for (score, (user, base)) in scores.iter_mut().zip(logits) {
            *score = user - contrast.contrast() * base;
        }
        let of_target = scores[target];
        let logprob = of_target - softmax(&mut scores);
        if !logprob.is_finite() {
            return Err(Error::Train("the model's logits are not finite".into()));
        }
        contrast.score(user, base, &mut candidates, &mut scratch)?;
        let better = |best: Candidate, next: Candidate| {
            if next.score > best.score { next } else { best }
        };
        let best = candidates.iter().copied().reduce(better);
        Ok(TokenScore {
            logprob,
            is_best: best.is_some_and(|best| best.token as usize == target),
        })
    };
    contrasts.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of four tokens: probabilities 0.4, 0.3, 0.25, 0.05 of the user model and 0.7, 0.1, 0.1, 0.1 of the base.
    fn logits() -> ([f32; 4], [f32; 4]) {
        let user = [0.4_f32, 0.3, 0.25, 0.05].map(|p| p.ln() + 3.0);
        let base = [0.7_f32, 0.1, 0.1, 0.1].map(|p| p.ln() - 1.0);
        (user, base)
    }

    fn scores(target: usize, contrasts: &[(f32, f32)]) -> Vec<TokenScore> {
        let (user, base) = logits();
        let contrasts = contrasts
            .iter()
            .map(|&(alpha, tau)| Contrast::new(alpha, tau).unwrap());
        token_scores(&user, &base, target, &contrasts.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn without_contrast_the_log_probability_is_the_user_models() {
        for (target, p) in [0.4_f32, 0.3, 0.25, 0.05].into_iter().enumerate() {
            let score = scores(target, &[(0.0, 0.1)])[0];
            assert!((score.logprob - p.ln()).abs() < 1e-6, "{target}: {score:?}");
            assert_eq!(score.is_best, target == 0);
        }
    }

    #[test]
    fn the_contrasted_distribution_is_normalised_over_the_whole_vocabulary() {
        // α = 1: 0.4 / 0.7, 0.3 / 0.1, 0.25 / 0.1 and 0.05 / 0.1 are in proportion to 4, 21, 17.5 and 3.5, in all 46.
        for (target, share) in [4.0_f32, 21.0, 17.5, 3.5].into_iter().enumerate() {
            let score = scores(target, &[(1.0, 0.1)])[0];
            let expected = (share / 46.0).ln();
            assert!(
                (score.logprob - expected).abs() < 1e-5,
                "{target}: {score:?}"
            );
            assert_eq!(score.is_best, target == 1);
        }
        // α = ½: the square roots of the base's probabilities divide.
        let weights = [
            0.4 / 0.7_f32.sqrt(),
            0.3 / 0.1_f32.sqrt(),
            0.25 / 0.1_f32.sqrt(),
        ];
        let sum = weights.iter().sum::<f32>() + 0.05 / 0.1_f32.sqrt();
        let half = scores(2, &[(0.5, 0.1)])[0];
        assert!(
            (half.logprob - (weights[2] / sum).ln()).abs() < 1e-5,
            "{half:?}"
        );
    }

    #[test]
    fn a_token_that_is_not_plausible_is_never_the_best() {
        // With τ = 0.9, only the first token is plausible: 0.3 < 0.9 · 0.4.
        let is_best = |target, tau| scores(target, &[(1.0, tau)])[0].is_best;
        assert!(is_best(0, 0.9) && !is_best(1, 0.9));
        assert!(is_best(1, 0.5) && !is_best(0, 0.5));
    }

    #[test]
    fn the_means_are_over_tokens_and_not_over_texts() {
        let text = |logprob, n_best, n_tokens| TextScore {
            logprob,
            n_best,
            n_tokens,
        };
        let texts = [text(-1.0, 1, 1), text(-6.0, 0, 3)];
        assert!((mean_logprob(&texts) + 1.75).abs() < 1e-12);
        assert!((accuracy(&texts) - 0.25).abs() < 1e-12);
        assert!(texts[0].is_right() && !texts[1].is_right());
    }

    #[test]
    fn logits_that_are_not_finite_are_an_error() {
        let (mut user, base) = logits();
        user[2] = f32::NAN;
        let contrast = [Contrast::default()];
        let error = token_scores(&user, &base, 0, &contrast).unwrap_err();
        assert!(matches!(error, Error::Train(_)), "{error}");
    }
}
