//! Direct preference optimisation of the user's adapter against mined negatives, the last stage.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::checkpoint::Checkpoint;
use super::examples::EncodedPair;
use super::fit::{FitConfig, StepLoss, fit};
use super::lora::Lora;
use super::loss::{RewardWeights, dpo_loss, response_logps};
use super::model::Model;
use super::progress::{Metrics, Observer, Stage};
use crate::Result;

/// Pairs whose base log-probabilities are computed in one pass.
const PAIRS: usize = 8;

/// The settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DpoConfig {
    /// How long and how fast.
    pub fit: FitConfig,
    /// β: how strongly the reward counts against staying near the base.
    pub beta: f32,
    /// α of the reward: the weight of the base's log-probability.
    pub base_weight: f32,
}

impl DpoConfig {
    fn weights(&self) -> RewardWeights {
        RewardWeights {
            beta: f64::from(self.beta),
            base_weight: f64::from(self.base_weight),
        }
    }
}

/// Refines `lora` on `pairs`. The base's log-probabilities are computed once, before the first step.
///
/// # Errors
/// See [`fit`].
pub fn dpo(
    model: &Model,
    lora: &Lora,
    pairs: &[EncodedPair],
    config: &DpoConfig,
    seed: u64,
    checkpoint: &mut Checkpoint,
    observe: Observer,
) -> Result<()> {
    let base_logps = pair_logps(model, None, pairs)?;
    let loss_of = |items: &[usize]| {
        let pairs: Vec<_> = items.iter().map(|&item| &pairs[item]).collect();
        let base_logps: Vec<_> = items.iter().map(|&item| base_logps[item]).collect();
        pair_loss(model, lora, &pairs, &base_logps, config)
    };
    fit(
        Stage::Dpo,
        lora,
        pairs.len(),
        &config.fit,
        seed,
        checkpoint,
        loss_of,
        observe,
    )
}

/// The loss of some pairs, with the figures of the log. `base_logps`: of each pair's chosen and rejected response, nats.
///
/// # Errors
/// A tensor operation failed.
pub fn pair_loss(
    model: &Model,
    lora: &Lora,
    pairs: &[&EncodedPair],
    base_logps: &[[f32; 2]],
    config: &DpoConfig,
) -> Result<StepLoss> {
    let batch = batch(pairs.iter().copied());
    let logps = response_logps(&model.logprobs(&batch, Some(lora))?, &batch.responses)?;
    let base_logps = Tensor::new(base_logps.as_flattened(), &Device::Cpu)?;
    let rewards = config.weights().reward(&logps, &base_logps)?;
    let mut metrics = reward_metrics(&rewards.to_vec1()?, &logps.to_vec1()?);
    metrics.insert("num_tokens", batch.n_tokens() as f64);
    Ok(StepLoss {
        loss: dpo_loss(&rewards)?,
        metrics,
    })
}

/// Rewards of `pairs` under an adapter, without a step: the figures of the log, over all of them. `base_logps` as in
/// [`pair_loss`].
///
/// # Errors
/// A tensor operation failed.
pub fn measure_rewards(
    model: &Model,
    lora: &Lora,
    pairs: &[EncodedPair],
    base_logps: &[[f32; 2]],
    config: &DpoConfig,
) -> Result<Metrics> {
    let user = pair_logps(model, Some(lora), pairs)?.into_flattened();
    let weights = config.weights();
    let reward = |(user, base): (&f32, &f32)| {
        (weights.beta * (f64::from(*user) - weights.base_weight * f64::from(*base))) as f32
    };
    let rewards: Vec<f32> = user
        .iter()
        .zip(base_logps.as_flattened())
        .map(reward)
        .collect();
    Ok(reward_metrics(&rewards, &user))
}

/// Pairs packed, each prompt with its chosen and its rejected response.
fn batch<'a>(pairs: impl IntoIterator<Item = &'a EncodedPair, IntoIter: Clone>) -> Batch {
    let pairs = pairs.into_iter();
    let mut batch = Batch::sharing(pairs.clone().map(|pair| pair.prompt.as_slice()));
    for pair in pairs {
        batch.push(&pair.prompt, [pair.chosen.as_slice(), &pair.rejected]);
    }
    batch
}

/// Log-probabilities of the responses, chosen and rejected of each pair, nats, with an adapter or without.
///
/// # Errors
/// A tensor operation failed.
pub fn pair_logps(
    model: &Model,
    lora: Option<&Lora>,
    pairs: &[EncodedPair],
) -> Result<Vec<[f32; 2]>> {
    let lora = lora.map(Lora::frozen);
    let mut logps = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(PAIRS) {
        let batch = batch(pairs);
        let sums = response_logps(&model.logprobs(&batch, lora.as_ref())?, &batch.responses)?
            .to_vec1::<f32>()?;
        logps.extend(sums.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
    }
    Ok(logps)
}

/// `rewards`, `logps`: chosen and rejected in turn. Means, by TRL's names.
fn reward_metrics(rewards: &[f32], logps: &[f32]) -> Metrics {
    let n = (rewards.len() / 2).max(1) as f64;
    let mean = |values: &[f32], side: usize| {
        values
            .iter()
            .skip(side)
            .step_by(2)
            .map(|&x| f64::from(x))
            .sum::<f64>()
            / n
    };
    let wins = rewards
        .chunks_exact(2)
        .filter(|pair| pair[0] > pair[1])
        .count();
    [
        ("rewards/chosen", mean(rewards, 0)),
        ("rewards/rejected", mean(rewards, 1)),
        ("rewards/margins", mean(rewards, 0) - mean(rewards, 1)),
        ("rewards/accuracies", wins as f64 / n),
        ("logps/chosen", mean(logps, 0)),
        ("logps/rejected", mean(logps, 1)),
    ]
    .into()
}
