//! Bootstrap intervals of scores over texts.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::score::{TextScore, accuracy, mean_logprob};
use crate::estimate::Estimate;

/// Number of samples of texts.
const N_SAMPLES: usize = 2_000;

/// The mean log-probability and the accuracy of texts, with the intervals in which they lie in 95 % of samples of as
/// many texts, drawn with replacement. Equal seeds draw the same samples.
pub(super) fn intervals(texts: &[TextScore], seed: u64) -> [Estimate; 2] {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sampled = [Vec::new(), Vec::new()];
    for _ in 0..N_SAMPLES {
        let draw = |_| texts[random.random_range(0..texts.len())];
        let sample: Vec<_> = (0..texts.len()).map(draw).collect();
        for (sampled, figure) in sampled.iter_mut().zip(figures(&sample)) {
            sampled.push(figure);
        }
    }
    let mut sampled = sampled.into_iter();
    figures(texts).map(|value| Estimate::from_samples(value, sampled.next().unwrap_or_default()))
}

fn figures(texts: &[TextScore]) -> [f64; 2] {
    [mean_logprob(texts), accuracy(texts)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_normal_approximation() {
        // Texts of one token, a quarter of which have a log-probability of −1 and are taken; the others have 0.
        let n = 400;
        let text = |i: usize| TextScore {
            logprob: if i.is_multiple_of(4) { -1.0 } else { 0.0 },
            n_best: usize::from(i.is_multiple_of(4)),
            n_tokens: 1,
        };
        let texts: Vec<_> = (0..n).map(text).collect();
        let [logprob, accuracy] = intervals(&texts, 1);
        let error = 1.96 * (0.25_f64 * 0.75 / n as f64).sqrt();
        for (figure, value) in [(logprob, -0.25), (accuracy, 0.25)] {
            assert!((figure.value - value).abs() < 1e-12);
            let width = figure.high - figure.low;
            assert!((width - 2.0 * error).abs() < 0.15 * error, "{figure:?}");
        }
        assert_eq!(intervals(&texts, 1), intervals(&texts, 1));
    }
}
