//! CoPe's contrast of two models' logits (arXiv 2506.12109), in two steps over `[n_vocab]` slices:
//!
//! ```text
//! V_head   = { y : p_user(y) ≥ τ · max p_user }  =  { y : user(y) ≥ max user + ln τ }
//! score(y) = user(y) − α · base(y)                                    for y in V_head
//! ```
//!
//! Nothing outside `V_head` becomes a candidate, whatever the base says of it. Scores are contrasts of logits, not of
//! log-probabilities: the two differ by a constant, `log Z_user − α · log Z_base`, which changes neither the best
//! candidate nor a softmax over the candidates. Only a repeat penalty, which multiplies, sees where zero lies; with
//! α = 0 it sees the user's logits, as in llama.cpp.
//!
//! What is not a number has these outcomes:
//!
//! - a user logit of NaN counts as −∞, and a token of −∞ is never a candidate, not even for τ = 0;
//! - a user logit of +∞ counts as the largest finite number;
//! - a base logit of −∞ or NaN counts as the smallest finite one among the candidates (0 if there is none): "not more
//!   plausible to the base than anything else here", for the formula's own answer, +∞, would let any such token win;
//! - a score beyond the finite numbers counts as the nearest of them.
//!
//! Candidates are in the order of their tokens, so of equal scores the lowest token wins.

#![cfg_attr(not(feature = "sampler"), forbid(unsafe_code))]

#[cfg(feature = "sampler")]
mod sampler;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// α is out of its range.
    #[error("the contrast must be 0 or more, not {0}")]
    Contrast(f32),
    /// τ is out of its range.
    #[error("the plausibility must be from 0 to 1, not {0}")]
    Plausibility(f32),
    /// No logit is above −∞: the model's numbers have gone astray.
    #[error("the model gives no token a probability")]
    NoCandidate,
}

/// A token that may come next, and its score: a logit, or a contrast of logits. Only differences matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token's number in the vocabulary, not negative.
    pub token: i32,
    /// Its score, unnormalised and finite.
    pub score: f32,
}

/// CoPe's two settings. Checked at construction, and changed only by constructing another.
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
    /// `contrast` is the paper's α, how strongly the base's opinion is taken away: finite, at least 0. `plausibility`
    /// is its τ, how probable a token must be to the user model, relative to the likeliest: 0 (every token) to 1 (only
    /// the likeliest).
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

    /// α.
    #[must_use]
    pub fn contrast(self) -> f32 {
        self.contrast
    }

    /// τ.
    #[must_use]
    pub fn plausibility(self) -> f32 {
        self.plausibility
    }

    /// The candidates and their scores. `user`, `base`: logits, `[n_vocab]`, unnormalised. `candidates` is emptied
    /// first; it and `opinions`, which only lends its allocation, allocate until they have held the largest `V_head`.
    ///
    /// # Errors
    ///
    /// As [`head`].
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn score(
        self,
        user: &[f32],
        base: &[f32],
        candidates: &mut Vec<Candidate>,
        opinions: &mut Vec<f32>,
    ) -> Result<()> {
        assert_eq!(user.len(), base.len(), "both models have one vocabulary");
        head(user, self.plausibility, candidates)?;
        opinions.clear();
        opinions.extend(candidates.iter().map(|it| base[it.token as usize]));
        self.apply(candidates, opinions);
        Ok(())
    }

    /// Contrasts `candidates`, whose scores are the user's logits, with the base's logits of them, in their order.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn apply(self, candidates: &mut [Candidate], base: &[f32]) {
        assert_eq!(candidates.len(), base.len(), "an opinion of each candidate");
        let stray = |logit: f32| logit.is_nan() || logit == f32::NEG_INFINITY;
        // Seldom needed, and a minimum is slow: it is one comparison after another.
        let floor = if base.iter().fold(false, |any, &it| any | stray(it)) {
            let finite = base.iter().copied().filter(|logit| logit.is_finite());
            finite.reduce(f32::min).unwrap_or(0.0)
        } else {
            0.0
        };
        for (candidate, &logit) in candidates.iter_mut().zip(base) {
            let opinion = if stray(logit) {
                floor
            } else {
                logit.min(f32::MAX)
            };
            candidate.score = (candidate.score - self.contrast * opinion).clamp(f32::MIN, f32::MAX);
        }
    }
}

/// `V_head` with the user's own logits as scores: what min-p with `plausibility` (τ) leaves. One pass finds the
/// maximum, one collects; `candidates` is emptied first.
///
/// # Errors
///
/// [`Error::NoCandidate`] if no logit is above −∞.
pub fn head(user: &[f32], plausibility: f32, candidates: &mut Vec<Candidate>) -> Result<()> {
    candidates.clear();
    let threshold = threshold(maximum(user), plausibility)?;
    for (chunk, first) in user.chunks(LANES).zip((0..).step_by(LANES)) {
        // Nearly all chunks have no candidate, which vector instructions see at once; where the others have theirs, a
        // mask tells without a branch for each token.
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

/// The least logit of a plausible token; `max` is the largest of all.
fn threshold(max: f32, plausibility: f32) -> Result<f32> {
    if max == f32::NEG_INFINITY {
        return Err(Error::NoCandidate);
    }
    // ln 0 is −∞; what must be excluded even then is −∞ itself, and NaN, which no comparison lets in.
    Ok((max.min(f32::MAX) + plausibility.ln()).max(f32::MIN))
}

/// Numbers that are looked at together, so that the compiler can use vector instructions; as many as a mask has bits.
const LANES: usize = u32::BITS as usize;

/// The larger of two; NaN is not.
fn larger(max: f32, logit: f32) -> f32 {
    if logit > max { logit } else { max }
}

/// The largest of `logits`, −∞ if there is none; NaN counts for nothing.
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

    /// The token that greedy decoding takes: the first of the best.
    fn best(scores: &[(i32, f32)]) -> i32 {
        let best = scores
            .iter()
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.expect("a candidate").0
    }

    #[test]
    fn the_formula_by_hand() {
        // p_user = 0.5, 0.25, 0.2, 0.05; τ = 0.2 keeps what has at least 0.1.
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
    fn plausibility_one_leaves_the_likeliest_and_nought_all_that_are_possible() {
        let user = [1.0, 2.0, 2.0, -INF];
        assert_eq!(score(0.0, 1.0, &user, &[0.0; 4]), [(1, 2.0), (2, 2.0)]);
        assert_eq!(
            score(0.0, 0.0, &user, &[0.0; 4]),
            [(0, 1.0), (1, 2.0), (2, 2.0)]
        );
    }

    #[test]
    fn of_equal_scores_the_lowest_token_wins() {
        let scores = score(1.0, 0.0, &[3.0, 1.0, 2.0, 2.0], &[3.0, 0.0, 1.0, 1.0]);
        assert_eq!(best(&scores), 1);
    }

    #[test]
    fn user_logits_that_are_no_numbers() {
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
    fn base_logits_that_are_no_numbers() {
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
        // Certain to the base, and yet without contrast the user decides.
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

    /// Logits of a vocabulary larger than the lanes of `maximum`, some of them no numbers.
    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let logit = prop_oneof![
            20 => -30.0..30.0_f32,
            1 => Just(-INF),
            1 => Just(INF),
            1 => Just(f32::NAN),
        ];
        proptest::collection::vec(logit, 70)
    }

    /// Logits that are equal or differ by far more than rounding.
    fn finite_logits() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec((-2000..2000).prop_map(|n| n as f32 / 64.0), 70)
    }

    proptest! {
        #[test]
        fn nothing_outside_the_head_is_ever_a_candidate(
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
        fn a_user_who_is_the_base_gets_the_bases_best(
            base in finite_logits(), contrast in 0.0..0.99_f32, plausibility in 0.0..=1.0_f32,
        ) {
            let scores = score(contrast, plausibility, &base, &base);
            let all: Vec<_> = (0..).zip(base).collect();
            prop_assert_eq!(best(&scores), best(&all));
        }
    }
}
