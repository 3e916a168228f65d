//! Direct preference optimisation of the user's adapter against mined negatives, the last stage.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::batch::PackedBatch;
use super::examples::EncodedPair;
use super::fit::{FitConfig, Objective, StepLoss};
use super::lora::Lora;
use super::loss::{RewardWeights, chosen_loss, dpo_loss, response_logps};
use super::model::TrainModel;
use super::progress::StepMetrics;
use crate::Result;
use crate::home::Stage;
use crate::llama::Token;

/// Pairs whose base log-probabilities are computed in one pass.
const PAIRS: usize = 8;

/// The settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DpoConfig {
    /// How long and how fast.
    pub fit: FitConfig,
    /// β: how strongly the reward counts against staying near the base.
    pub beta: f32,
    /// Whether the reward is by token, so that it does not depend on a response's length.
    pub length_normalized: bool,
    /// α of the reward: the weight of the base's log-probability.
    pub base_weight: f32,
    /// The weight of the chosen responses' own loss, [`chosen_loss`], beside DPO's; 0 is DPO alone.
    #[serde(default)]
    pub rpo_alpha: f32,
}

impl DpoConfig {
    /// What the reward of a response of `n_tokens` is divided by.
    fn length(&self, n_tokens: usize) -> f32 {
        if self.length_normalized {
            n_tokens as f32
        } else {
            1.0
        }
    }

    fn weights(&self) -> RewardWeights {
        RewardWeights {
            beta: f64::from(self.beta),
            base_weight: f64::from(self.base_weight),
        }
    }
}

/// Pairs as what an adapter is fitted to. The base's log-probabilities are computed once, while mining or before the
/// first step.
pub struct Dpo<'a> {
    /// The base.
    pub model: &'a TrainModel,
    /// α and β.
    pub config: &'a DpoConfig,
    /// What is learnt.
    pub pairs: &'a ScoredPairs,
    /// What is not, and says how good the adapter is: by the loss, nats.
    pub held_out: &'a ScoredPairs,
}

/// Pairs with the base's log-probabilities of their chosen and rejected responses, nats.
pub struct ScoredPairs {
    /// The pairs.
    pub pairs: Vec<EncodedPair>,
    /// By pair.
    pub base_logps: Vec<[f32; 2]>,
}

impl ScoredPairs {
    /// Computes the log-probabilities that are not `known`.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn new(model: &TrainModel, pairs: Vec<(EncodedPair, Option<[f32; 2]>)>) -> Result<Self> {
        let (pairs, known): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let unknown = pairs
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none());
        let unknown: Vec<_> = unknown.map(|(pair, _)| pair).collect();
        let mut computed = pair_logps(model, None, &unknown)?.into_iter();
        let base_logps = known
            .into_iter()
            .filter_map(|known| known.or_else(|| computed.next()));
        Ok(Self {
            base_logps: base_logps.collect(),
            pairs,
        })
    }
}

impl ScoredPairs {
    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.pairs.extend(others.pairs);
        self.base_logps.extend(others.base_logps);
        self
    }
}

impl Objective for Dpo<'_> {
    fn stage(&self) -> Stage {
        Stage::Dpo
    }

    fn n_items(&self) -> usize {
        self.pairs.pairs.len()
    }

    fn loss(&self, lora: &Lora, items: &[usize]) -> Result<StepLoss> {
        let pairs: Vec<_> = items.iter().map(|&item| &self.pairs.pairs[item]).collect();
        let base_logps: Vec<_> = items
            .iter()
            .map(|&item| self.pairs.base_logps[item])
            .collect();
        pair_loss(self.model, lora, &pairs, &base_logps, self.config)
    }

    fn score(&self, lora: &Lora) -> Result<Option<f64>> {
        if self.held_out.pairs.is_empty() {
            return Ok(None);
        }
        let rewards = rewards(self.model, lora, self.held_out, self.config)?;
        let loss = dpo_loss(&Tensor::new(rewards, &Device::Cpu)?)?;
        Ok(Some(-f64::from(loss.to_scalar::<f32>()?)))
    }
}

/// The loss of some pairs, with the figures of the log. `base_logps`: of each pair's chosen and rejected response, nats.
///
/// # Errors
/// A tensor operation failed.
pub fn pair_loss(
    model: &TrainModel,
    lora: &Lora,
    pairs: &[&EncodedPair],
    base_logps: &[[f32; 2]],
    config: &DpoConfig,
) -> Result<StepLoss> {
    let batch = batch(pairs.iter().copied());
    let logps = response_logps(&model.logprobs(&batch, Some(lora))?, &batch.responses)?;
    let base_logps = Tensor::new(base_logps.as_flattened(), &Device::Cpu)?;
    let lengths: Vec<f32> = batch
        .responses
        .iter()
        .map(|it| config.length(it.len()))
        .collect();
    let lengths = Tensor::new(lengths, &Device::Cpu)?;
    let rewards = config.weights().reward(&logps, &base_logps, &lengths)?;
    let mut loss = dpo_loss(&rewards)?;
    if config.rpo_alpha > 0.0 {
        let n_tokens = batch.responses.iter().map(|it| it.len() as f32);
        let n_tokens = Tensor::from_iter(n_tokens, &Device::Cpu)?;
        loss = (loss + (chosen_loss(&logps, &n_tokens)? * f64::from(config.rpo_alpha))?)?;
    }
    Ok(StepLoss {
        loss,
        weight: pairs.len() as f64,
        n_tokens: batch.n_tokens(),
        metrics: reward_metrics(&rewards.to_vec1()?, &logps.to_vec1()?),
    })
}

/// Mean reward of the chosen responses over that of the rejected ones, without a step.
///
/// # Errors
/// A tensor operation failed.
pub fn mean_margin(
    model: &TrainModel,
    lora: &Lora,
    pairs: &ScoredPairs,
    config: &DpoConfig,
) -> Result<f64> {
    let rewards = rewards(model, lora, pairs, config)?;
    Ok(mean(&rewards, 0) - mean(&rewards, 1))
}

/// Of each pair's chosen and rejected response in turn.
fn rewards(
    model: &TrainModel,
    lora: &Lora,
    pairs: &ScoredPairs,
    config: &DpoConfig,
) -> Result<Vec<f32>> {
    let each: Vec<_> = pairs.pairs.iter().collect();
    let user = pair_logps(model, Some(lora), &each)?.into_flattened();
    let weights = config.weights();
    let base = pairs.base_logps.as_flattened();
    let responses = pairs
        .pairs
        .iter()
        .flat_map(|pair| [&pair.chosen, &pair.rejected]);
    let reward = |((user, base), response): ((&f32, &f32), &Vec<Token>)| {
        let whole = f64::from(*user) - weights.base_weight * f64::from(*base);
        (weights.beta * whole / f64::from(config.length(response.len()))) as f32
    };
    Ok(user.iter().zip(base).zip(responses).map(reward).collect())
}

/// Pairs packed, each prompt with its chosen and its rejected response.
fn batch<'a>(pairs: impl IntoIterator<Item = &'a EncodedPair, IntoIter: Clone>) -> PackedBatch {
    let pairs = pairs.into_iter();
    let mut batch = PackedBatch::sharing(pairs.clone().map(|pair| pair.prompt.as_slice()));
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
    model: &TrainModel,
    lora: Option<&Lora>,
    pairs: &[&EncodedPair],
) -> Result<Vec<[f32; 2]>> {
    let lora = lora.map(Lora::frozen);
    let mut logps = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(PAIRS) {
        let batch = batch(pairs.iter().copied());
        let sums = response_logps(&model.logprobs(&batch, lora.as_ref())?, &batch.responses)?
            .to_vec1::<f32>()?;
        logps.extend(sums.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
    }
    Ok(logps)
}

/// `rewards`, `logps`: chosen and rejected in turn. Means, by TRL's names.
fn reward_metrics(rewards: &[f32], logps: &[f32]) -> StepMetrics {
    let n = (rewards.len() / 2).max(1) as f64;
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

/// Of the values of one side, 0 or 1, in turn with the other's.
fn mean(values: &[f32], side: usize) -> f64 {
    let sum: f64 = values
        .iter()
        .skip(side)
        .step_by(2)
        .map(|&x| f64::from(x))
        .sum();
    sum / (values.len() / 2).max(1) as f64
}
