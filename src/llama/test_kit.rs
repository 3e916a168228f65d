//! Helpers of unit tests.

use cope_contrast::Candidate;

/// Candidates of ascending tokens from 0, with these scores.
pub fn candidates(scores: &[f32]) -> Vec<Candidate> {
    (0..)
        .zip(scores)
        .map(|(token, &score)| Candidate { token, score })
        .collect()
}
