//! The paired bootstrap over users and their queries: what a difference of two methods may be by chance.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

/// The scores of two methods on the same query.
pub type PairOfScores = [f64; 2];

/// A task's pairs of scores, user by user; no user is without.
pub type Users = Vec<Vec<PairOfScores>>;

/// A figure and the interval in which it lies in 95 of 100 samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Of the scores themselves.
    pub value: f64,
    /// The lower end: the percentile 2.5.
    pub low: f64,
    /// The upper end: the percentile 97.5.
    pub high: f64,
}

const N_SAMPLES: usize = 10_000;

/// `statistic` of the mean scores of each task, and its interval when users are drawn anew, and of each user the
/// queries: so that it holds for other users, and for what these may ask another time. The mean is over queries, as
/// LaMP's is.
pub fn estimate(
    tasks: &[Users],
    seed: u64,
    statistic: impl Fn(&[PairOfScores]) -> f64,
) -> Estimate {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let value = statistic(
        &tasks
            .iter()
            .map(|users| mean(users.iter().flatten()))
            .collect::<Vec<_>>(),
    );
    let mut sample = || {
        let means: Vec<_> = tasks
            .iter()
            .map(|users| resampled(users, &mut rng))
            .collect();
        statistic(&means)
    };
    let mut samples: Vec<f64> = (0..N_SAMPLES).map(|_| sample()).collect();
    samples.sort_by(f64::total_cmp);
    let percentile = |share: f64| samples[((N_SAMPLES - 1) as f64 * share).round() as usize];
    Estimate {
        value,
        low: percentile(0.025),
        high: percentile(0.975),
    }
}

/// By how much the second method's mean is above the first's, relative to it, averaged over tasks.
#[must_use]
pub fn relative_gain(means: &[PairOfScores]) -> f64 {
    let gain = |[one, other]: &PairOfScores| other / one - 1.0;
    means.iter().map(gain).sum::<f64>() / means.len() as f64
}

/// The mean scores of a sample of users and queries.
fn resampled(users: &Users, rng: &mut ChaCha8Rng) -> PairOfScores {
    let mut sums = [0.0; 2];
    let mut n = 0;
    for _ in users {
        let queries = &users[rng.random_range(0..users.len())];
        for _ in queries {
            let [one, other] = queries[rng.random_range(0..queries.len())];
            sums[0] += one;
            sums[1] += other;
        }
        n += queries.len();
    }
    sums.map(|sum| sum / n as f64)
}

fn mean<'a>(scores: impl Iterator<Item = &'a PairOfScores>) -> PairOfScores {
    let (mut sums, mut n) = ([0.0; 2], 0);
    for [one, other] in scores {
        sums[0] += one;
        sums[1] += other;
        n += 1;
    }
    sums.map(|sum| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(means: &[PairOfScores]) -> f64 {
        means[0][1] - means[0][0]
    }

    #[test]
    fn the_interval_is_that_of_the_normal_approximation() {
        // One query a user: the bootstrap of a plain mean. Differences are ±1 by a coin of the index.
        let n = 400;
        let users: Users = (0..n)
            .map(|i| vec![[0.0, if i % 4 == 0 { 1.0 } else { 0.0 }]])
            .collect();
        let estimate = estimate(&[users], 1, difference);
        let error = 1.96 * (0.25_f64 * 0.75 / f64::from(n)).sqrt();
        assert!((estimate.value - 0.25).abs() < 1e-12);
        assert!(
            (estimate.high - estimate.low - 2.0 * error).abs() < 0.1 * error,
            "{estimate:?}"
        );
    }

    #[test]
    fn users_who_differ_widen_the_interval_and_queries_alone_do_not() {
        // The same 64 differences: all of one user alike, or spread over the users.
        let alike: Users = (0..8)
            .map(|user| vec![[0.0, f64::from(user % 2)]; 8])
            .collect();
        let spread: Users = (0..8)
            .map(|_| (0..8).map(|query| [0.0, f64::from(query % 2)]).collect())
            .collect();
        let width = |users: Users| {
            let estimate = estimate(&[users], 2, difference);
            estimate.high - estimate.low
        };
        assert!(width(alike) > 2.0 * width(spread));
    }

    #[test]
    fn the_relative_gain_is_the_mean_over_tasks() {
        assert!((relative_gain(&[[0.1, 0.12], [0.4, 0.4]]) - 0.1).abs() < 1e-12);
    }
}
