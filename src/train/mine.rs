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
use super::progress::{Event, Observer, Stage};
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

/// For each example the sample of lowest reward; `None` where all samples are the user's own response.
///
/// # Errors
/// A tensor operation failed, or the observer stopped the work.
pub fn mine(
    model: &Model,
    lora: &Lora,
    examples: &[Encoded],
    config: &MineConfig,
    seed: u64,
    is_eog: &(dyn Fn(Token) -> bool + Sync),
    observe: Observer,
) -> Result<Vec<Option<Sample>>> {
    let stage = Stage::Mine;
    observe(Event::Started {
        stage,
        total: examples.len(),
        done: 0,
    })?;
    // A negative much longer than the user's own response would be told from it by its length alone.
    let requests: Vec<_> = examples
        .iter()
        .map(|example| Request {
            prompt: &example.prompt,
            max_new_tokens: example.response.len().min(config.max_new_tokens),
        })
        .collect();
    let sampling = SampleConfig {
        n_samples: config.n_samples,
        temperature: config.temperature,
        top_p: config.top_p,
        seed,
    };
    let ended = |done| {
        observe(Event::Step {
            stage,
            done,
            metrics: [].into(),
        })
    };
    let samples = sample(model, &requests, sampling, is_eog, ended)?;

    let mut worst = Vec::with_capacity(examples.len());
    for (examples, samples) in examples.chunks(PROMPTS).zip(samples.chunks(PROMPTS)) {
        let mut batch = Batch::default();
        for (example, samples) in examples.iter().zip(samples) {
            batch.push(
                &example.prompt,
                samples.iter().map(|sample| sample.tokens.as_slice()),
            );
        }
        let logprobs = model.logprobs(&batch, Some(&lora.frozen()))?;
        let user_logps = response_logps(&logprobs, &batch.responses)?.to_vec1::<f32>()?;
        let mut user_logps = user_logps.into_iter();
        for (example, samples) in examples.iter().zip(samples) {
            let rewards = user_logps.by_ref().take(samples.len()).zip(samples);
            let rewards = rewards.map(|(user, sample)| {
                (
                    f64::from(user) - f64::from(config.base_weight) * sample.logps,
                    sample,
                )
            });
            let others = rewards.filter(|(_, sample)| sample.tokens != example.response);
            worst.push(
                others
                    .min_by(|x, y| x.0.total_cmp(&y.0))
                    .map(|(_, sample)| sample.clone()),
            );
        }
    }
    Ok(worst)
}
