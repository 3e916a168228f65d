//! Negatives for DPO: of K samples from the base, the one that is least like the user.
//!
//! `r(y) = Σ_t [log π_user(y_t) − α log π_base(y_t)]`, over the response's tokens; the lowest reward is kept.

use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::examples::Encoded;
use super::generate::{Request, Sample, SampleConfig, sample};
use super::lora::Lora;
use super::loss::response_logps;
use super::model::Model;
use crate::Result;
use crate::llama::Token;

/// Prompts whose samples are scored in one pass.
const PROMPTS: usize = 8;

/// How negatives are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MineConfig {
    /// K: samples of each prompt.
    pub n_samples: usize,
    /// Temperature of the samples.
    pub temperature: f32,
    /// Nucleus of the samples.
    pub top_p: f32,
    /// A sample ends here, in tokens, or at the length of the user's own response, if not before.
    pub max_new_tokens: usize,
    /// α: the weight of the base's log-probability in the reward.
    pub base_weight: f32,
}

/// What mining needs beside the examples.
pub struct Miner<'a> {
    /// The base.
    pub model: &'a Model,
    /// The user's adapter after SFT.
    pub lora: &'a Lora,
    /// How negatives are found.
    pub config: &'a MineConfig,
    /// Equal seeds give equal negatives.
    pub seed: u64,
    /// Whether a token ends a response.
    pub is_eog: &'a (dyn Fn(Token) -> bool + Sync),
}

/// The sample that is least like the user.
#[derive(Clone, Debug)]
pub struct Negative {
    /// It.
    pub sample: Sample,
    /// The base's log-probability of the user's own response, nats: what DPO will ask beside that of the sample.
    pub chosen_logps: f64,
}

impl Miner<'_> {
    /// For each example the sample of lowest reward; `None` where all samples are the user's own response. `first` is
    /// the number of the first of them in the whole, on which their samples depend.
    ///
    /// # Errors
    /// A tensor operation failed, or `ended`, which hears how many are sampled, stopped the work.
    pub fn mine(
        &self,
        examples: &[Encoded],
        first: usize,
        ended: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Option<Negative>>> {
        let config = self.config;
        let requests: Vec<_> = examples
            .iter()
            .enumerate()
            .map(|(number, example)| Request {
                number: first + number,
                prompt: &example.prompt,
                response: &example.response,
                max_new_tokens: example.response.len().min(config.max_new_tokens),
            })
            .collect();
        let sampling = SampleConfig {
            n_samples: config.n_samples,
            temperature: config.temperature,
            top_p: config.top_p,
            seed: self.seed,
        };
        let sampled = sample(self.model, &requests, sampling, self.is_eog, ended)?;

        let mut worst = Vec::with_capacity(examples.len());
        for (examples, sampled) in examples.chunks(PROMPTS).zip(sampled.chunks(PROMPTS)) {
            let mut batch =
                Batch::sharing(examples.iter().map(|example| example.prompt.as_slice()));
            for (example, sampled) in examples.iter().zip(sampled) {
                let samples = sampled.samples.iter();
                batch.push(
                    &example.prompt,
                    samples.map(|sample| sample.tokens.as_slice()),
                );
            }
            let logprobs = self.model.logprobs(&batch, Some(&self.lora.frozen()))?;
            let user_logps = response_logps(&logprobs, &batch.responses)?.to_vec1::<f32>()?;
            let mut user_logps = user_logps.into_iter();
            for (example, sampled) in examples.iter().zip(sampled) {
                let samples = &sampled.samples;
                let rewards = user_logps.by_ref().take(samples.len()).zip(samples);
                let rewards = rewards.map(|(user, sample)| {
                    let base = f64::from(config.base_weight) * sample.logps;
                    (f64::from(user) - base, sample)
                });
                let others = rewards.filter(|(_, sample)| sample.tokens != example.response);
                let negative = others.min_by(|x, y| x.0.total_cmp(&y.0));
                worst.push(negative.map(|(_, sample)| Negative {
                    sample: sample.clone(),
                    chosen_logps: sampled.response_logps,
                }));
            }
        }
        Ok(worst)
    }
}
