//! The two losses, over the log-probabilities of a batch's response tokens.
//!
//! SFT: `L = −mean log π_user(y_t)`, over all response tokens of the batch.
//!
//! DPO (Rafailov et al. 2023, with the reward of CoPe): `L = −mean log σ(r(y⁺) − r(y⁻))`,
//! `r(y) = β Σ_t [log π_user(y_t) − α log π_base(y_t)]`. The base's terms are constants.

use std::ops::Range;

use candle_core::{Result, Tensor};

/// `logprobs`: `[r]`, nats. Returns a scalar.
///
/// # Errors
/// A tensor operation failed.
pub fn sft_loss(logprobs: &Tensor) -> Result<Tensor> {
    logprobs.mean_all()?.neg()
}

/// Sums of each response's log-probabilities: `[r]` → `[n_responses]`.
///
/// # Errors
/// A tensor operation failed.
pub fn response_logps(logprobs: &Tensor, responses: &[Range<usize>]) -> Result<Tensor> {
    let sums: Result<Vec<_>> = responses
        .iter()
        .map(|r| logprobs.narrow(0, r.start, r.len())?.sum_all())
        .collect();
    Tensor::stack(&sums?, 0)
}

/// The weights of the reward.
#[derive(Clone, Copy, Debug)]
pub struct RewardWeights {
    /// DPO's β.
    pub beta: f64,
    /// α: the weight of the base's log-probability.
    pub base_weight: f64,
}

impl RewardWeights {
    /// `β (logps − α base_logps)`; all `[n]`.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn reward(self, logps: &Tensor, base_logps: &Tensor) -> Result<Tensor> {
        (logps - (base_logps * self.base_weight)?)? * self.beta
    }
}

/// `rewards`: `[2 n]`, chosen and rejected in turn. Returns a scalar.
///
/// # Errors
/// A tensor operation failed.
pub fn dpo_loss(rewards: &Tensor) -> Result<Tensor> {
    let pairs = rewards.reshape(((), 2))?;
    let margins = (pairs.narrow(1, 0, 1)? - pairs.narrow(1, 1, 1)?)?;
    // −log σ(x) = max(−x, 0) + log(1 + exp(−|x|)), which overflows for no x.
    let tail = (margins.abs()?.neg()?.exp()? + 1.0)?.log()?;
    (margins.neg()?.relu()? + tail)?.mean_all()
}
