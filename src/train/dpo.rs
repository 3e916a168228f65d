//! Direct preference optimisation (DPO) of the user's adapter on pairs of a preferred and a rejected response: the last
//! stage. The loss is in [`super::loss`].

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::encoder::EncodedPair;
use super::fit::{FitConfig, Objective, StepLoss};
use super::lora::Lora;
use super::loss::{RewardWeights, chosen_loss, dpo_loss, response_logps};
use super::model::TrainModel;
use super::packing::PackedBatch;
use super::train_event::{PassObserver, StepMetrics};
use crate::Result;
use crate::home::Stage;
use crate::llama::Token;

/// Pairs whose log-probabilities are computed in one pass.
const PAIRS: usize = 8;

/// The settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DpoConfig {
    /// Length of the training, and learning rate.
    pub fit: FitConfig,
    /// β, over 0: the scale of the reward, and so the weight of staying near the base.
    pub beta: f32,
    /// Whether the reward is divided by the response's number of tokens.
    pub length_normalized: bool,
    /// α of the reward: the weight of the base's log-probability.
    pub base_weight: f32,
    /// The weight of the chosen responses' own loss, [`chosen_loss`], beside DPO's; 0 is DPO alone.
    #[serde(default)]
    pub rpo_alpha: f32,
}

impl DpoConfig {
    /// The divisor of the reward of a response of `n_tokens`.
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

/// The objective of the stage. The base's log-probabilities are computed only once, while mining or before the first
/// step.
pub struct Dpo<'a> {
    /// The base.
    pub model: &'a TrainModel,
    /// The settings of the loss.
    pub config: &'a DpoConfig,
    /// The pairs that are trained on.
    pub pairs: &'a ScoredPairs,
    /// The held-out pairs, whose negative loss, in nats, is the adapter's score.
    pub held_out: &'a ScoredPairs,
}

/// Pairs with the base's log-probabilities of their responses.
pub struct ScoredPairs {
    /// The pairs.
    pub pairs: Vec<EncodedPair>,
    /// For each pair, the base's log-probabilities of the chosen and of the rejected response, in nats.
    pub base_logps: Vec<[f32; 2]>,
}

impl ScoredPairs {
    /// Takes pairs with the base's log-probabilities where these are known, and computes the others.
    ///
    /// # Errors
    /// A tensor operation failed, or `ended`, which is called after each pass, returned an error.
    pub fn new(
        model: &TrainModel,
        pairs: Vec<(EncodedPair, Option<[f32; 2]>)>,
        ended: PassObserver,
    ) -> Result<Self> {
        let (pairs, known): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let unknown = pairs
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none());
        let unknown: Vec<_> = unknown.map(|(pair, _)| pair).collect();
        let mut computed = pair_logps(model, None, &unknown, ended)?.into_iter();
        let base_logps = known
            .into_iter()
            .filter_map(|known| known.or_else(|| computed.next()));
        Ok(Self {
            base_logps: base_logps.collect(),
            pairs,
        })
    }

    /// These pairs followed by `others`.
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
        let rewards = rewards(self.model, lora, self.held_out, self.config, &mut || Ok(()))?;
        let loss = dpo_loss(&Tensor::new(rewards, &Device::Cpu)?)?;
        Ok(Some(-f64::from(loss.to_scalar::<f32>()?)))
    }
}

/// The mean loss of some pairs, with the metrics of the log. `base_logps` are the base's log-probabilities of each
/// pair's chosen and rejected response, in nats.
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

/// Mean reward of the chosen responses minus that of the rejected ones.
///
/// # Errors
/// A tensor operation failed, or `ended`, which is called after each pass, returned an error.
pub fn mean_margin(
    model: &TrainModel,
    lora: &Lora,
    pairs: &ScoredPairs,
    config: &DpoConfig,
    ended: PassObserver,
) -> Result<f64> {
    let rewards = rewards(model, lora, pairs, config, ended)?;
    Ok(mean(&rewards, 0) - mean(&rewards, 1))
}

/// The rewards of each pair's chosen and rejected response in turn, `[2 n]`.
fn rewards(
    model: &TrainModel,
    lora: &Lora,
    pairs: &ScoredPairs,
    config: &DpoConfig,
    ended: PassObserver,
) -> Result<Vec<f32>> {
    let each: Vec<_> = pairs.pairs.iter().collect();
    let user = pair_logps(model, Some(lora), &each, ended)?.into_flattened();
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

/// Packs pairs: each prompt with its chosen and its rejected response.
fn batch<'a>(pairs: impl IntoIterator<Item = &'a EncodedPair, IntoIter: Clone>) -> PackedBatch {
    let pairs = pairs.into_iter();
    let mut batch = PackedBatch::sharing(pairs.clone().map(|pair| pair.prompt.as_slice()));
    for pair in pairs {
        batch.push(&pair.prompt, [pair.chosen.as_slice(), &pair.rejected]);
    }
    batch
}

/// Log-probabilities of each pair's chosen and rejected response, in nats, with an adapter or under the base. `ended` is
/// called after each pass.
///
/// # Errors
/// A tensor operation failed, or `ended` returned an error.
pub fn pair_logps(
    model: &TrainModel,
    lora: Option<&Lora>,
    pairs: &[&EncodedPair],
    ended: PassObserver,
) -> Result<Vec<[f32; 2]>> {
    let lora = lora.map(Lora::frozen);
    let mut logps = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(PAIRS) {
        let batch = batch(pairs.iter().copied());
        let sums = response_logps(&model.logprobs(&batch, lora.as_ref())?, &batch.responses)?
            .to_vec1::<f32>()?;
        logps.extend(sums.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
        ended()?;
    }
    Ok(logps)
}

/// The means of `rewards` and `logps`, `[2 n]`, which are of the chosen and the rejected response in turn. The names
/// are those of TRL's logs.
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

/// The mean of every second value, from the first (`side` 0, the chosen responses) or the second (1, the rejected ones)
/// on.
fn mean(values: &[f32], side: usize) -> f64 {
    let sum: f64 = values
        .iter()
        .skip(side)
        .step_by(2)
        .map(|&x| f64::from(x))
        .sum();
    sum / (values.len() / 2).max(1) as f64
}
