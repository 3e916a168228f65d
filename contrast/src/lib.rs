//! CoPe's contrast of two models' logits (arXiv 2506.12109), in two steps over `[n_vocab]` slices:
//!
//! ```text
//! V_head   = { y : p_user(y) ≥ τ · max p_user }  =  { y : user(y) ≥ max user + ln τ }
//! score(y) = user(y) − α · base(y)                                    for y in V_head
//! ```
//!
//! `V_head` is the plausible set. A token outside it never becomes a candidate, whatever its logit in the base.
//!
//! ```
//! use cope_contrast::Contrast;
//!
//! let user = [3.0, 2.0, 1.0, -4.0];
//! let base = [4.0, 1.0, 1.0, -14.0];
//! let (mut candidates, mut scratch) = (Vec::new(), Vec::new());
//! Contrast::new(0.5, 0.1)?.score(&user, &base, &mut candidates, &mut scratch)?; // α, τ
//!
//! // The threshold is 3 + ln 0.1 = 0.697, so token 3 is out, although it would score −4 + 0.5 · 14 = 3.
//! // The others score 3 − 0.5 · 4, 2 − 0.5 · 1 and 1 − 0.5 · 1: the user's likeliest token is 0, the contrast's is 1.
//! let scores: Vec<_> = candidates.iter().map(|it| (it.token, it.score)).collect();
//! assert_eq!(scores, [(0, 1.0), (1, 1.5), (2, 0.5)]);
//! # Ok::<(), cope_contrast::Error>(())
//! ```
//!
//! Scores are contrasts of logits, not of log-probabilities. The two differ by a constant,
//! `log Z_user − α · log Z_base`, where `Z` is the softmax's sum. It changes neither the best candidate nor a softmax
//! over the candidates. Only a repeat penalty, which multiplies scores, depends on where zero lies; with α = 0 it works
//! on the user's logits, as in llama.cpp.
//!
//! Logits that are not finite numbers are handled as follows:
//!
//! - A user logit of NaN counts as −∞. A token with a user logit of −∞ is never a candidate, not even with τ = 0.
//! - A user logit of +∞ counts as the largest finite number.
//! - A base logit of −∞ or NaN counts as the smallest finite base logit among the candidates, or as 0 if there is none.
//!   By the formula the score would be +∞, and any such token would win.
//! - A score beyond the finite numbers counts as the nearest finite number.
//!
//! Candidates are in the order of their tokens, so of tokens with equal scores the lowest wins.

#![forbid(unsafe_code)]

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A setting out of its range, or logits without a candidate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// α is out of its range.
    #[error("the contrast must be 0 or more, not {0}")]
    Contrast(f32),
    /// τ is out of its range.
    #[error("the plausibility must be from 0 to 1, not {0}")]
    Plausibility(f32),
    /// No logit is above −∞: the model's computation has gone wrong.
    #[error("the model gives no token a probability")]
    NoCandidate,
}

/// A token that may come next, with its score: a logit, or a contrast of logits. Only differences of scores matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token's number in the vocabulary, not negative.
    pub token: i32,
    /// Its score, unnormalised and finite.
    pub score: f32,
}

/// CoPe's two settings, α and τ, which are in their ranges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    contrast: f32,
    plausibility: f32,
}

impl Default for Contrast {
    fn default() -> Self {
        Self {
            contrast: 0.1,
            plausibility: 0.1,
        }
    }
}

impl Contrast {
    /// Checks the settings. `contrast` is the paper's α, the weight with which the base's logits are subtracted:
    /// finite, at least 0. `plausibility` is its τ, the least probability of a candidate in the user model, relative to
    /// the likeliest token: from 0 (every token) to 1 (only the likeliest).
    ///
    /// # Errors
    ///
    /// [`Error::Contrast`] or [`Error::Plausibility`], if one is outside its range.
    pub fn new(contrast: f32, plausibility: f32) -> Result<Self> {
        if !contrast.is_finite() || contrast < 0.0 {
            return Err(Error::Contrast(contrast));
        }
        if !(0.0..=1.0).contains(&plausibility) {
            return Err(Error::Plausibility(plausibility));
        }
        Ok(Self {
            contrast,
            plausibility,
        })
    }

    /// The contrast α.
    #[must_use]
    pub fn contrast(self) -> f32 {
        self.contrast
    }

    /// The plausibility threshold τ.
    #[must_use]
    pub fn plausibility(self) -> f32 {
        self.plausibility
    }

    /// Puts the plausible set and its scores into `candidates`, which is emptied first. `user` and `base` are
    /// unnormalised logits, `[n_vocab]`. `scratch` only lends its memory. Both vectors grow to the largest plausible
    /// set that they have held, and then allocate no more.
    ///
    /// # Errors
    ///
    /// The errors of [`head`].
    ///
    /// # Panics
    ///
    /// If `user` and `base` differ in length.
    pub fn score(
        self,
        user: &[f32],
        base: &[f32],
        candidates: &mut Vec<Candidate>,
        scratch: &mut Vec<f32>,
    ) -> Result<()> {
        assert_eq!(user.len(), base.len(), "both models have one vocabulary");
        head(user, self.plausibility, candidates)?;
        scratch.clear();
        scratch.extend(candidates.iter().map(|it| base[it.token as usize]));
        self.apply(candidates, scratch);
        Ok(())
    }

    /// Contrasts `candidates`, whose scores are the user's logits, with `base`, the base's logits of the same tokens in
    /// the same order.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn apply(self, candidates: &mut [Candidate], base: &[f32]) {
        assert_eq!(
            candidates.len(),
            base.len(),
            "a base logit for each candidate"
        );
        let stray = |logit: f32| logit.is_nan() || logit == f32::NEG_INFINITY;
        // The smallest logit is seldom needed, and slow to find: each comparison waits for the one before.
        let floor = if base.iter().fold(false, |any, &it| any | stray(it)) {
            let finite = base.iter().copied().filter(|logit| logit.is_finite());
            finite.reduce(f32::min).unwrap_or(0.0)
        } else {
            0.0
        };
        for (candidate, &logit) in candidates.iter_mut().zip(base) {
            let logit = if stray(logit) {
                floor
            } else {
                logit.min(f32::MAX)
            };
            candidate.score = (candidate.score - self.contrast * logit).clamp(f32::MIN, f32::MAX);
        }
    }
}

/// Puts the plausible set `V_head` into `candidates`, which is emptied first, with the user's logits as scores. It is
/// the set that the sampler min-p leaves with `plausibility` (τ). One pass over the logits finds their maximum, and a
/// second one collects the candidates.
///
/// # Errors
///
/// [`Error::NoCandidate`] if no logit is above −∞.
pub fn head(user: &[f32], plausibility: f32, candidates: &mut Vec<Candidate>) -> Result<()> {
    candidates.clear();
    let threshold = threshold(maximum(user), plausibility)?;
    for (chunk, first) in user.chunks(LANES).zip((0..).step_by(LANES)) {
        // Nearly all chunks have no candidate, which vector instructions find out at once. In the others a mask finds
        // the candidates without a branch for each token.
        let marks = chunk.iter().map(|&it| u8::from(it >= threshold));
        if marks.fold(0, |any, mark| any | mark) != 0 {
            let bits = (0..)
                .zip(chunk)
                .map(|(bit, &it)| u32::from(it >= threshold) << bit);
            let mut mask = bits.fold(0, |mask, bit| mask | bit);
            while mask != 0 {
                let bit = mask.trailing_zeros();
                candidates.push(Candidate {
                    token: first + bit as i32,
                    score: chunk[bit as usize].min(f32::MAX),
                });
                mask &= mask - 1;
            }
        }
    }
    Ok(())
}

/// The least logit of a plausible token; `max` is the largest logit of all, and `plausibility` is τ.
///
/// # Errors
///
/// [`Error::NoCandidate`] if `max` is −∞.
pub fn threshold(max: f32, plausibility: f32) -> Result<f32> {
    if max == f32::NEG_INFINITY {
        return Err(Error::NoCandidate);
    }
    // With τ = 0, ln τ is −∞. The clamp keeps logits of −∞ out even then; NaN is out because it passes no comparison.
    Ok((max.min(f32::MAX) + plausibility.ln()).max(f32::MIN))
}

/// The number of logits that are compared together, so that the compiler uses vector instructions: as many as a mask
/// has bits.
const LANES: usize = u32::BITS as usize;

/// The larger of `max` and `logit`; `max` if `logit` is NaN.
fn larger(max: f32, logit: f32) -> f32 {
    if logit > max { logit } else { max }
}

/// The largest of `logits` except NaN; −∞ if there is none.
fn maximum(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied();
    for chunk in chunks {
        for (max, &logit) in lanes.iter_mut().zip(chunk) {
            *max = larger(*max, logit);
        }
    }
    lanes
        .into_iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INF: f32 = f32::INFINITY;

    fn score(contrast: f32, plausibility: f32, user: &[f32], base: &[f32]) -> Vec<(i32, f32)> {
        let mut candidates = Vec::new();
        let settings = Contrast::new(contrast, plausibility).unwrap();
        settings
            .score(user, base, &mut candidates, &mut Vec::new())
            .unwrap();
        candidates
            .iter()
            .map(|candidate| (candidate.token, candidate.score))
            .collect()
    }

    /// The token that greedy decoding takes: the first of those with the best score.
    fn best(scores: &[(i32, f32)]) -> i32 {
        let best = scores
            .iter()
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.expect("a candidate").0
    }

    #[test]
    fn the_formula_by_hand() {
        // p_user = 0.5, 0.25, 0.2, 0.05; τ = 0.2 keeps tokens with at least 0.1.
        let user = [0.5_f32, 0.25, 0.2, 0.05].map(f32::ln);
        let base = [0.7_f32, 0.1, 0.1, 0.1].map(f32::ln);
        let scores = score(0.5, 0.2, &user, &base);
        let expected = [
            (0, user[0] - 0.5 * base[0]),
            (1, user[1] - 0.5 * base[1]),
            (2, user[2] - 0.5 * base[2]),
        ];
        assert_eq!(scores, expected);
        assert_eq!(best(&scores), 1, "0.25 / √0.1 is more than 0.5 / √0.7");
    }

    #[test]
    fn adding_a_constant_to_either_model_changes_no_difference_of_scores() {
        let (user, base) = ([2.0, 1.5, 1.0, 0.0], [0.0, 3.0, 1.0, 2.0]);
        let scores = score(0.5, 0.1, &user, &base);
        let moved = score(0.5, 0.1, &user.map(|x| x + 4.0), &base.map(|x| x - 2.0));
        let differences =
            |scores: &[(i32, f32)]| scores.iter().map(|s| s.1 - scores[0].1).collect::<Vec<_>>();
        assert_eq!(differences(&scores), differences(&moved));
    }

    #[test]
    fn plausibility_1_keeps_the_likeliest_tokens_and_0_all_possible_ones() {
        let user = [1.0, 2.0, 2.0, -INF];
        assert_eq!(score(0.0, 1.0, &user, &[0.0; 4]), [(1, 2.0), (2, 2.0)]);
        assert_eq!(
            score(0.0, 0.0, &user, &[0.0; 4]),
            [(0, 1.0), (1, 2.0), (2, 2.0)]
        );
    }

    #[test]
    fn the_lowest_of_several_tokens_with_equal_scores_wins() {
        let scores = score(1.0, 0.0, &[3.0, 1.0, 2.0, 2.0], &[3.0, 0.0, 1.0, 1.0]);
        assert_eq!(best(&scores), 1);
    }

    #[test]
    fn user_logits_that_are_not_finite_follow_the_rules() {
        assert_eq!(
            score(0.0, 0.0, &[f32::NAN, 1.0, -INF, 0.0], &[0.0; 4]),
            [(1, 1.0), (3, 0.0)]
        );
        assert_eq!(
            score(0.5, 0.1, &[INF, 1.0, INF, 0.0], &[0.0; 4]),
            [(0, f32::MAX), (2, f32::MAX)]
        );
        assert_eq!(
            score(0.0, 0.0, &[f32::MIN, -INF], &[0.0; 2]),
            [(0, f32::MIN)]
        );
        for user in [[-INF; 3], [f32::NAN; 3]] {
            assert_eq!(head(&user, 0.1, &mut Vec::new()), Err(Error::NoCandidate));
        }
        assert!(head(&[], 0.1, &mut Vec::new()).is_err());
    }

    #[test]
    fn base_logits_that_are_not_finite_follow_the_rules() {
        let user = [1.0; 4];
        let floored = [(0, 0.0), (1, 1.0), (2, 1.0), (3, 1.0)];
        assert_eq!(score(0.5, 0.0, &user, &[2.0, 0.0, -INF, f32::NAN]), floored);
        assert_eq!(
            score(0.5, 0.0, &user, &[-INF; 4]),
            [(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)]
        );
        assert_eq!(
            score(2.0, 0.0, &user, &[INF, 0.0, 0.0, 0.0])[0],
            (0, f32::MIN)
        );
        // The base is certain of token 0, but with α = 0 only the user's logits count.
        assert_eq!(
            score(0.0, 0.0, &user, &[INF, -INF, 0.0, 0.0]),
            [(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)]
        );
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        for (contrast, plausibility) in [
            (-0.1, 0.1),
            (f32::NAN, 0.1),
            (INF, 0.1),
            (0.3, -0.1),
            (0.3, 1.1),
            (0.3, f32::NAN),
        ] {
            assert!(Contrast::new(contrast, plausibility).is_err());
        }
        let default = Contrast::default();
        assert_eq!(
            Contrast::new(default.contrast(), default.plausibility()).unwrap(),
            default
        );
    }

    /// Logits of a vocabulary larger than `LANES`, some of them not finite.
    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let logit = prop_oneof![
            20 => -30.0..30.0_f32,
            1 => Just(-INF),
            1 => Just(INF),
            1 => Just(f32::NAN),
        ];
        proptest::collection::vec(logit, 70)
    }

    /// Finite logits, any two of which are equal or differ by far more than rounding.
    fn finite_logits() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec((-2000..2000).prop_map(|n| n as f32 / 64.0), 70)
    }

    proptest! {
        #[test]
        fn the_candidates_are_exactly_the_plausible_tokens(
            user in logits(), base in logits(), contrast in 0.0..5.0_f32, plausibility in 0.0..=1.0_f32,
        ) {
            let max = user.iter().copied().fold(-INF, f32::max).min(f32::MAX);
            prop_assume!(max > -INF);
            let scores = score(contrast, plausibility, &user, &base);
            for (token, logit) in (0..).zip(&user) {
                let plausible = *logit > -INF && *logit >= max + plausibility.ln();
                prop_assert_eq!(plausible, scores.iter().any(|score| score.0 == token));
            }
            prop_assert!(scores.iter().all(|score| score.1.is_finite()));
            prop_assert!(scores.is_sorted_by_key(|score| score.0));
        }

        #[test]
        fn without_contrast_the_users_best_wins(
            user in finite_logits(), base in logits(), plausibility in 0.0..=1.0_f32,
        ) {
            let scores = score(0.0, plausibility, &user, &base);
            let all: Vec<_> = (0..).zip(user).collect();
            prop_assert_eq!(best(&scores), best(&all));
        }

        #[test]
        fn a_user_model_equal_to_the_base_chooses_the_bases_best_token(
            base in finite_logits(), contrast in 0.0..0.99_f32, plausibility in 0.0..=1.0_f32,
        ) {
            let scores = score(contrast, plausibility, &base, &base);
            let all: Vec<_> = (0..).zip(base).collect();
            prop_assert_eq!(best(&scores), best(&all));
        }
    }
}
