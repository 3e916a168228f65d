//! Mining: samples for each prompt, and pairs of a preferred and a rejected response for DPO.
//!
//! [`Preference::Reward`] is the paper's rule: the user's own response is preferred to the one of K samples of the base
//! that has the lowest reward. [`Preference::Likeness`] is the default: of K samples of the user's model, the one most
//! like the user's own response is preferred to the one least like it. The paper's rule soon has nothing left to teach,
//! since after SFT on the same items the user's own responses are already far likelier than any sample of the base. The
//! default compares responses that the user's model may really give.

use std::cmp::Reverse;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::encoder::Encoded;
use super::lora::Lora;
use super::loss::response_logps;
use super::model::TrainModel;
use super::packing::PackedBatch;
use super::sample::{Sample, SampleConfig, SampleRequest, Sampled, sample};
use crate::Result;
use crate::llama::Token;

/// Prompts whose samples are scored in one pass.
const PROMPTS: usize = 8;

/// The settings of mining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MineConfig {
    /// The model that samples.
    pub sampler: SampleSource,
    /// The rule that makes pairs from samples.
    pub preference: Preference,
    /// K: number of samples for each prompt.
    pub n_samples: usize,
    /// Temperature of the samples.
    pub temperature: f32,
    /// Nucleus of the samples (top-p), in (0, 1].
    pub top_p: f32,
    /// The most tokens of a sample.
    pub max_new_tokens: usize,
    /// The most tokens of a sample relative to the length of the user's own response. At 1, few samples end by
    /// themselves, and DPO learns to end early.
    pub length_ratio: f32,
    /// α: the weight of the base's log-probability in the reward.
    pub base_weight: f32,
}

/// The model that samples come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SampleSource {
    /// The base, `π_base`.
    Base,
    /// The base with the user's adapter after SFT, `π_user`.
    User,
}

/// The rule that makes a pair from the samples for a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// The user's own response is preferred to the sample with the lowest reward
    /// `r(y) = Σ_t [log π_user(y_t) − α log π_base(y_t)]`, summed over the sample's tokens.
    Reward,
    /// The sample most like the user's own response, of those that ended by themselves, is preferred to the sample
    /// least like it.
    Likeness,
}

impl MineConfig {
    /// The most tokens of a sample for an example with this response.
    pub(super) fn sample_len(&self, response: &[Token]) -> usize {
        let len = response.len() as f32 * self.length_ratio;
        (len.ceil() as usize).min(self.max_new_tokens)
    }
}

/// The models and settings of mining.
pub struct Miner<'a> {
    /// The base.
    pub model: &'a TrainModel,
    /// The user's adapter after SFT.
    pub lora: &'a Lora,
    /// The settings.
    pub config: &'a MineConfig,
    /// Seed of the samples. Equal seeds give equal pairs.
    pub seed: u64,
    /// Whether a token ends a response (end of generation).
    pub is_eog: &'a (dyn Fn(Token) -> bool + Sync),
    /// The likeness, 0 to 1, of a sample to the response of the example with this number among all examples.
    pub likeness: &'a dyn Fn(usize, &[Token]) -> f64,
}

/// A pair made from the samples for a prompt.
#[derive(Clone, Debug)]
pub struct Found {
    /// The preferred response; `None` for the user's own.
    pub chosen: Option<Sample>,
    /// The rejected response.
    pub rejected: Sample,
    /// The base's log-probabilities of the preferred and the rejected response, in nats, where sampling has computed
    /// them. DPO needs them.
    pub base_logps: Option<[f64; 2]>,
}

impl Miner<'_> {
    /// The numbers of `examples` in the order in which they are mined: those that may have the longest samples first, so that
    /// samples that are drawn together end at about the same time.
    pub fn order(&self, examples: &[Encoded]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by_key(|&number| Reverse(self.config.sample_len(&examples[number].response)));
        order
    }

    /// Makes a pair for each of the examples, which are given with their numbers among all examples; `None` where the samples
    /// make no pair. The random numbers depend on the example's number. `ended` is called after each pass with
    /// the number of examples whose samples have ended.
    ///
    /// # Errors
    /// A tensor operation failed, or `ended` returned an error.
    pub fn mine(
        &self,
        examples: &[(usize, &Encoded)],
        ended: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Option<Found>>> {
        let config = self.config;
        let requests: Vec<_> = examples
            .iter()
            .map(|&(number, example)| SampleRequest {
                number,
                prompt: &example.prompt,
                response: &example.response,
                max_new_tokens: config.sample_len(&example.response),
            })
            .collect();
        let sampling = SampleConfig {
            n_samples: config.n_samples,
            temperature: config.temperature,
            top_p: config.top_p,
            seed: self.seed,
        };
        let lora = (config.sampler == SampleSource::User).then_some(self.lora);
        let sampled = sample(self.model, lora, &requests, sampling, self.is_eog, ended)?;
        match config.preference {
            Preference::Reward => self.by_reward(examples, &sampled),
            Preference::Likeness => {
                let sampled = std::iter::zip(examples, sampled);
                let found = sampled.map(|((number, _), it)| self.by_likeness(*number, it));
                Ok(found.collect())
            }
        }
    }

    /// The pairs of [`Preference::Reward`]. `None` where every sample is the user's own response.
    fn by_reward(
        &self,
        examples: &[(usize, &Encoded)],
        sampled: &[Sampled],
    ) -> Result<Vec<Option<Found>>> {
        let base_weight = f64::from(self.config.base_weight);
        let is_by_base = self.config.sampler == SampleSource::Base;
        // Sampling has computed the log-probabilities under one of the two models; these passes compute the other's.
        let other = is_by_base.then(|| self.lora.frozen());
        let mut found = Vec::with_capacity(examples.len());
        for (examples, sampled) in examples.chunks(PROMPTS).zip(sampled.chunks(PROMPTS)) {
            let prompts = examples
                .iter()
                .map(|(_, example)| example.prompt.as_slice());
            let mut batch = PackedBatch::sharing(prompts);
            for ((_, example), sampled) in examples.iter().zip(sampled) {
                let samples = sampled.samples.iter();
                batch.push(
                    &example.prompt,
                    samples.map(|sample| sample.tokens.as_slice()),
                );
            }
            let logprobs = self.model.logprobs(&batch, other.as_ref())?;
            let logps = response_logps(&logprobs, &batch.responses)?.to_vec1::<f32>()?;
            let mut logps = logps.into_iter().map(f64::from);
            for ((_, example), sampled) in examples.iter().zip(sampled) {
                let samples = &sampled.samples;
                let rewards = logps.by_ref().take(samples.len()).zip(samples);
                let rewards = rewards.map(|(other, sample)| {
                    let (user, base) = if is_by_base {
                        (other, sample.logps)
                    } else {
                        (sample.logps, other)
                    };
                    (user - base_weight * base, sample)
                });
                let others = rewards.filter(|(_, sample)| sample.tokens != example.response);
                let worst = others.min_by(|x, y| x.0.total_cmp(&y.0));
                found.push(worst.map(|(_, sample)| Found {
                    chosen: None,
                    rejected: sample.clone(),
                    base_logps: is_by_base.then_some([sampled.response_logps, sample.logps]),
                }));
            }
        }
        Ok(found)
    }

    /// The pair of [`Preference::Likeness`] for the example of this number. `None` if all samples are equally like the
    /// user's response, or if none ended by itself, since a text that is cut off is no example to follow.
    fn by_likeness(&self, number: usize, sampled: Sampled) -> Option<Found> {
        let likeness = |sample: Sample| ((self.likeness)(number, &sample.tokens), sample);
        let mut samples: Vec<_> = sampled.samples.into_iter().map(likeness).collect();
        // The sort is stable: samples of equal likeness stay in the order in which they were drawn.
        samples.sort_by(|x, y| x.0.total_cmp(&y.0));
        let best = samples.iter().rposition(|(_, sample)| sample.finished)?;
        let (most, chosen) = samples.remove(best);
        let (least, rejected) = samples.into_iter().next()?;
        let by_base =
            (self.config.sampler == SampleSource::Base).then_some([chosen.logps, rejected.logps]);
        (most > least).then_some(Found {
            chosen: Some(chosen),
            rejected,
            base_logps: by_base,
        })
    }
}
