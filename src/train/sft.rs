//! Supervised fine-tuning (SFT) of an adapter on the user's own responses, as in OPPU (Tan et al. 2024): the first
//! stage.

use super::encoder::Encoded;
use super::fit::{Objective, StepLoss};
use super::lora::Lora;
use super::loss::sft_loss;
use super::model::TrainModel;
use super::packing::PackedBatch;
use super::train_event::{PassObserver, StepMetrics};
use crate::Result;
use crate::home::Stage;

/// Examples whose log-probabilities are computed in one pass.
const EXAMPLES: usize = 8;

/// The objective of the stage.
pub struct Sft<'a> {
    /// The base.
    pub model: &'a TrainModel,
    /// The examples that are trained on.
    pub examples: &'a [Encoded],
    /// The held-out examples, whose mean log-probability, in nats a token, is the adapter's score.
    pub held_out: &'a [Encoded],
}

impl Objective for Sft<'_> {
    fn stage(&self) -> Stage {
        Stage::Sft
    }

    fn n_items(&self) -> usize {
        self.examples.len()
    }

    fn loss(&self, lora: &Lora, items: &[usize]) -> Result<StepLoss> {
        batch_loss(
            self.model,
            lora,
            items.iter().map(|&item| &self.examples[item]),
        )
    }

    fn score(&self, lora: &Lora) -> Result<Option<f64>> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        mean_logprob(self.model, Some(lora), self.held_out, &mut || Ok(())).map(Some)
    }
}

/// The loss of some examples: the mean over all their response tokens.
///
/// # Errors
/// A tensor operation failed.
pub fn batch_loss<'a>(
    model: &TrainModel,
    lora: &Lora,
    examples: impl IntoIterator<Item = &'a Encoded, IntoIter: Clone>,
) -> Result<StepLoss> {
    let batch = batch(examples);
    let loss = sft_loss(&model.logprobs(&batch, Some(lora))?)?;
    Ok(StepLoss {
        loss,
        weight: batch.targets.len() as f64,
        n_tokens: batch.n_tokens(),
        metrics: StepMetrics::new(),
    })
}

/// Packs examples: each prompt with its response. The prompts share their common prefix.
pub fn batch<'a>(examples: impl IntoIterator<Item = &'a Encoded, IntoIter: Clone>) -> PackedBatch {
    let examples = examples.into_iter();
    let mut batch = PackedBatch::sharing(examples.clone().map(|example| example.prompt.as_slice()));
    for example in examples {
        batch.push(&example.prompt, [example.response.as_slice()]);
    }
    batch
}

/// Mean log-probability of the responses' tokens, in nats a token, with an adapter or under the base. `ended` is called
/// after each pass.
///
/// # Errors
/// A tensor operation failed, or `ended` returned an error.
pub fn mean_logprob(
    model: &TrainModel,
    lora: Option<&Lora>,
    examples: &[Encoded],
    ended: PassObserver,
) -> Result<f64> {
    let lora = lora.map(Lora::frozen);
    let (mut sum, mut n_tokens) = (0.0, 0);
    for examples in examples.chunks(EXAMPLES) {
        let logprobs = model
            .logprobs(&batch(examples), lora.as_ref())?
            .to_vec1::<f32>()?;
        sum += logprobs
            .iter()
            .map(|&logprob| f64::from(logprob))
            .sum::<f64>();
        n_tokens += logprobs.len();
        ended()?;
    }
    Ok(sum / n_tokens.max(1) as f64)
}
