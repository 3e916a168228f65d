//! The paired bootstrap over users and their queries: an interval for the gain of one method over another.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::json;

use crate::digest::digest;
use crate::estimate::Estimate;

/// The scores of two methods on the same query: first the method that is compared with, then the one whose gain is
/// computed.
pub type PairOfScores = [f64; 2];

/// A task's pairs of scores, user by user.
#[derive(Clone, Debug, Default)]
pub struct TaskScores {
    /// The users' ids.
    pub users: Vec<String>,
    /// The scores of each user, at least one pair each.
    pub pairs: Vec<Vec<PairOfScores>>,
}

/// The number of samples of a bootstrap.
pub(super) const N_SAMPLES: usize = 10_000;

/// The gain of one method over the other, averaged over tasks: the difference of their means over queries, relative to
/// the other's mean.
///
/// The interval comes from a bootstrap in two stages: each sample draws users with replacement, and for each drawn user
/// queries with replacement. So it holds for other users and other queries too. Tasks with the same users draw the same
/// users in each sample. The result is `None` if there are no tasks, or if the other's mean is 0 in a task.
#[must_use]
pub fn gain(tasks: &[TaskScores], seed: u64) -> Option<Estimate> {
    let means: Vec<_> = tasks
        .iter()
        .map(|task| mean(task.pairs.iter().flatten()))
        .collect();
    if means.is_empty() || means.iter().any(|[other, _]| *other <= 0.0) {
        return None;
    }
    let gain = |means_of_sample: &[PairOfScores]| {
        let gains = means_of_sample.iter().zip(&means);
        let gains = gains.map(|([other, one], [of_all, _])| {
            // A sample may hold scores of 0 alone, where most scores are 0.
            let relative_to = if *other > 0.0 { other } else { of_all };
            (one - other) / relative_to
        });
        gains.sum::<f64>() / means.len() as f64
    };
    let ids: Vec<_> = tasks
        .iter()
        .map(|task| seed_of(&task.users, seed))
        .collect();
    let mut queries = ChaCha8Rng::seed_from_u64(seed);
    let mut sample = |number: u64| {
        let tasks = tasks.iter().zip(&ids);
        let means: Vec<_> = tasks
            .map(|(task, seed)| {
                let mut users = ChaCha8Rng::seed_from_u64(seed.wrapping_add(number));
                resampled(&task.pairs, &mut users, &mut queries)
            })
            .collect();
        gain(&means)
    };
    let samples = (0..N_SAMPLES as u64).map(&mut sample).collect();
    Some(Estimate::from_samples(gain(&means), samples))
}

/// A seed that depends on the users and on `seed`, so that tasks with the same users draw alike.
fn seed_of(users: &[String], seed: u64) -> u64 {
    let digest = digest(&json!([users, seed]));
    // The digest is hexadecimal, so parsing succeeds.
    u64::from_str_radix(&digest[..16], 16).unwrap_or(seed)
}

/// The mean scores of a sample of users and queries.
fn resampled(
    users: &[Vec<PairOfScores>],
    draw_user: &mut ChaCha8Rng,
    draw_query: &mut ChaCha8Rng,
) -> PairOfScores {
    let mut drawn = Vec::new();
    for _ in users {
        let queries = &users[draw_user.random_range(0..users.len())];
        let query = |_| &queries[draw_query.random_range(0..queries.len())];
        drawn.extend((0..queries.len()).map(query));
    }
    mean(drawn.into_iter())
}

fn mean<'a>(scores: impl Iterator<Item = &'a PairOfScores>) -> PairOfScores {
    let (mut sums, mut n) = ([0.0; 2], 0);
    for [other, one] in scores {
        sums[0] += other;
        sums[1] += one;
        n += 1;
    }
    sums.map(|sum| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pairs: Vec<Vec<PairOfScores>>) -> TaskScores {
        TaskScores {
            users: (0..pairs.len()).map(|user| user.to_string()).collect(),
            pairs,
        }
    }

    #[test]
    fn the_interval_is_that_of_the_normal_approximation() {
        // One query per user: the bootstrap of a plain mean, whose differences are 1 in a quarter of the cases, else 0.
        let n = 400;
        let pair = |i: i32| vec![[1.0, if i % 4 == 0 { 2.0 } else { 1.0 }]];
        let estimate = gain(&[task((0..n).map(pair).collect())], 1).unwrap();
        let error = 1.96 * (0.25_f64 * 0.75 / f64::from(n)).sqrt();
        assert!((estimate.value - 0.25).abs() < 1e-12);
        let width = estimate.high - estimate.low;
        assert!((width - 2.0 * error).abs() < 0.1 * error, "{estimate:?}");
    }

    #[test]
    fn users_who_differ_widen_the_interval_and_queries_alone_do_not() {
        // The same 64 differences: alike for all queries of a user, or spread over each user's queries.
        let pair = |gains: i32| [1.0, 1.0 + f64::from(gains)];
        let alike = (0..8).map(|user| vec![pair(user % 2); 8]).collect();
        let spread = (0..8)
            .map(|_| (0..8).map(|query| pair(query % 2)).collect())
            .collect();
        let width = |pairs| {
            let estimate = gain(&[task(pairs)], 2).unwrap();
            estimate.high - estimate.low
        };
        assert!(width(alike) > 2.0 * width(spread));
    }

    #[test]
    fn tasks_of_the_same_users_rise_and_fall_together() {
        let pairs: Vec<_> = (0..12)
            .map(|user| vec![[1.0, 1.0 + f64::from(user % 2)]])
            .collect();
        let one = task(pairs.clone());
        let mut others = task(pairs);
        others.users.iter_mut().for_each(|id| id.push('x'));
        let width = |tasks: &[TaskScores]| {
            let estimate = gain(tasks, 3).unwrap();
            estimate.high - estimate.low
        };
        let alone = width(std::slice::from_ref(&one));
        assert!((width(&[one.clone(), one.clone()]) - alone).abs() < 1e-12);
        assert!(width(&[one, others]) < 0.85 * alone);
    }

    #[test]
    fn the_gain_is_relative_and_the_mean_over_tasks() {
        let tasks = [task(vec![vec![[0.1, 0.12]]]), task(vec![vec![[0.4, 0.4]]])];
        assert!((gain(&tasks, 4).unwrap().value - 0.1).abs() < 1e-12);
        assert_eq!(gain(&[], 4), None);
        assert_eq!(gain(&[task(vec![vec![[0.0, 0.1]]])], 4), None);
    }
}
