//! How well texts that were trained on are told from others by their probabilities.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::Scored;
use crate::estimate::Estimate;
use crate::home::{ByArm, Membership};
use crate::train::calibrate::score::TokenScore;

/// With fewer texts of either kind, the interval would say nothing.
const LEAST_TEXTS: usize = 8;

/// Number of samples of texts for an interval.
const N_SAMPLES: usize = 1_000;

/// The areas under the ROC curves; `None` with too few texts of either kind.
pub(super) fn membership(
    trained: &[Scored],
    untrained: &[Scored],
    seed: u64,
) -> Option<Membership> {
    if trained.len().min(untrained.len()) < LEAST_TEXTS {
        return None;
    }
    let area = |figure: &dyn Fn(&Scored) -> f64| {
        let of = |texts: &[Scored]| texts.iter().map(figure).collect::<Vec<_>>();
        area_with_interval(&of(trained), &of(untrained), seed)
    };
    Some(Membership {
        n_untrained: untrained.len(),
        by_logprob: ByArm {
            base: area(&|text| mean(&text.base)),
            user: area(&|text| mean(&text.user)),
            cope: area(&|text| mean(&text.cope)),
        },
        by_gain: area(&|text| mean(&text.user) - mean(&text.base)),
    })
}

/// The mean log-probability of a token, in nats.
fn mean(tokens: &[TokenScore]) -> f64 {
    let sum: f64 = tokens.iter().map(|token| f64::from(token.logprob)).sum();
    sum / tokens.len().max(1) as f64
}

/// The area under the ROC curve with the interval of a bootstrap over the texts of each kind.
fn area_with_interval(trained: &[f64], untrained: &[f64], seed: u64) -> Estimate {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sample = |of: &[f64]| -> Vec<f64> {
        let draw = |_| of[random.random_range(0..of.len())];
        (0..of.len()).map(draw).collect()
    };
    let samples = (0..N_SAMPLES).map(|_| area(&sample(trained), &sample(untrained)));
    let samples = samples.collect();
    Estimate::from_samples(area(trained, untrained), samples)
}

/// The area under the ROC curve: the probability that a text of the first kind has the larger figure of two, where equal ones
/// count half (Mann–Whitney).
fn area(trained: &[f64], untrained: &[f64]) -> f64 {
    let mut untrained = untrained.to_vec();
    untrained.sort_by(f64::total_cmp);
    let below = |figure: f64| {
        let smaller = untrained.partition_point(|it| *it < figure);
        let not_larger = untrained.partition_point(|it| *it <= figure);
        f64::midpoint(smaller as f64, not_larger as f64)
    };
    let sum: f64 = trained.iter().map(|&figure| below(figure)).sum();
    sum / (trained.len() * untrained.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_the_right_order() {
        assert!((area(&[2.0, 3.0], &[0.0, 1.0]) - 1.0).abs() < 1e-12);
        assert!(area(&[0.0], &[1.0, 2.0]).abs() < 1e-12);
        // Of six pairs four are right, and one is equal.
        let some = area(&[1.0, 3.0], &[0.0, 1.0, 2.0]);
        assert!((some - 4.5 / 6.0).abs() < 1e-12, "{some}");
    }

    #[test]
    fn equal_kinds_have_an_interval_around_a_half_and_unlike_ones_above_it() {
        let text = |logprob: f32| {
            ByArm::new(|_| {
                vec![TokenScore {
                    logprob,
                    is_best: false,
                }]
            })
        };
        let texts = |from: i32| {
            (from..from + 40)
                .map(|i| text(-0.1 * i as f32))
                .collect::<Vec<_>>()
        };
        let (same, likelier) = (texts(20), texts(0));
        let none = membership(&same, &texts(20), 1).unwrap();
        assert!((none.by_logprob.user.value - 0.5).abs() < 1e-6);
        assert!(none.by_logprob.user.low < 0.5 && none.by_logprob.user.high > 0.5);
        let some = membership(&likelier, &same, 1).unwrap();
        assert!(some.by_logprob.cope.low > 0.5, "{some:?}");
        // Base and user model give the same probabilities, so that the gain tells nothing.
        assert!((some.by_gain.value - 0.5).abs() < 1e-12);
        assert_eq!(membership(&same, &same[..7], 1), None);
    }
}
