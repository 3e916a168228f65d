//! Pairs for DPO, from samples: what is preferred, and what is not.
//!
//! The paper's: of K samples from the base, the one that is least like the user, below the user's own response. By likeness:
//! of K samples, from the user's model best, the one most like the user's own response, above the one least like it. The
//! first soon has nothing more to teach: after SFT on the same items, the user's own responses are far likelier than any
//! sample of the base. The second compares what the model itself might say.

use serde::{Deserialize, Serialize};

use super::batch::PackedBatch;
use super::examples::Encoded;
use super::generate::{Sample, SampleConfig, SampleRequest, Sampled, sample};
use super::lora::Lora;
use super::loss::response_logps;
use super::model::TrainModel;
use crate::Result;
use crate::llama::Token;

/// Prompts whose samples are scored in one pass.
const PROMPTS: usize = 8;

/// How pairs are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MineConfig {
    /// Whose samples they are.
    pub sampler: SampleSource,
    /// What makes a pair of them.
    pub preference: Preference,
    /// K: samples of each prompt.
    pub n_samples: usize,
    /// Temperature of the samples.
    pub temperature: f32,
    /// Nucleus of the samples.
    pub top_p: f32,
    /// A sample ends here, in tokens, if not before.
    pub max_new_tokens: usize,
    /// And here, in lengths of the user's own response. At 1 few samples end by themselves, and DPO learns to end early.
    pub length_ratio: f32,
    /// α: the weight of the base's log-probability in the reward.
    pub base_weight: f32,
}

/// A model that samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleSource {
    /// `π_base`.
    Base,
    /// `π_user` after SFT.
    User,
}

/// What is preferred to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// The user's own response, to the sample of the lowest reward
    /// `r(y) = Σ_t [log π_user(y_t) − α log π_base(y_t)]`, over the response's tokens.
    Reward,
    /// The sample most like the user's own response, to the one least like it.
    Likeness,
}

impl MineConfig {
    /// The most tokens of a sample.
    pub(super) fn sample_len(&self, response: &[Token]) -> usize {
        let len = response.len() as f32 * self.length_ratio;
        (len.ceil() as usize).min(self.max_new_tokens)
    }
}

/// What mining needs beside the examples.
pub struct Miner<'a> {
    /// The base.
    pub model: &'a TrainModel,
    /// The user's adapter after SFT.
    pub lora: &'a Lora,
    /// How pairs are found.
    pub config: &'a MineConfig,
    /// Equal seeds give equal pairs.
    pub seed: u64,
    /// Whether a token ends a response.
    pub is_eog: &'a (dyn Fn(Token) -> bool + Sync),
    /// How like a sample is to the response of the example of this number in the whole, from 0 to 1.
    pub likeness: &'a dyn Fn(usize, &[Token]) -> f64,
}

/// A pair that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is preferred; `None` for the user's own response.
    pub chosen: Option<Sample>,
    /// What it is preferred to.
    pub rejected: Sample,
    /// The base's log-probabilities of both, nats, where they were computed: what DPO will ask.
    pub base_logps: Option<[f64; 2]>,
}

impl Miner<'_> {
    /// A pair for each example; `None` where the samples make none. `first` is the number of the first of them in the
    /// whole, on which their samples depend.
    ///
    /// # Errors
    /// A tensor operation failed, or `ended`, which hears how many are sampled, stopped the work.
    pub fn mine(
        &self,
        examples: &[Encoded],
        first: usize,
        ended: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Option<Found>>> {
        let config = self.config;
        let requests: Vec<_> = examples
            .iter()
            .enumerate()
            .map(|(number, example)| SampleRequest {
                number: first + number,
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
                let sampled = (first..).zip(sampled);
                Ok(sampled.map(|it| self.by_likeness(it.0, it.1)).collect())
            }
        }
    }

    fn by_reward(&self, examples: &[Encoded], sampled: &[Sampled]) -> Result<Vec<Option<Found>>> {
        let base_weight = f64::from(self.config.base_weight);
        let is_by_base = self.config.sampler == SampleSource::Base;
        // The other model's opinion of each sample.
        let other = is_by_base.then(|| self.lora.frozen());
        let mut found = Vec::with_capacity(examples.len());
        for (examples, sampled) in examples.chunks(PROMPTS).zip(sampled.chunks(PROMPTS)) {
            let mut batch =
                PackedBatch::sharing(examples.iter().map(|example| example.prompt.as_slice()));
            for (example, sampled) in examples.iter().zip(sampled) {
                let samples = sampled.samples.iter();
                batch.push(
                    &example.prompt,
                    samples.map(|sample| sample.tokens.as_slice()),
                );
            }
            let logprobs = self.model.logprobs(&batch, other.as_ref())?;
            let logps = response_logps(&logprobs, &batch.responses)?.to_vec1::<f32>()?;
            let mut logps = logps.into_iter().map(f64::from);
            for (example, sampled) in examples.iter().zip(sampled) {
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

    /// `None` where all samples are alike, or none has ended by itself: a text that is cut off is no example.
    fn by_likeness(&self, number: usize, sampled: Sampled) -> Option<Found> {
        let likeness = |sample: Sample| ((self.likeness)(number, &sample.tokens), sample);
        let mut samples: Vec<_> = sampled.samples.into_iter().map(likeness).collect();
        // A stable order, so that equals are as they were drawn.
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
