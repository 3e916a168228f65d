//! Supervised fine-tuning on the user's own responses (OPPU), the first stage.

use super::batch::Batch;
use super::checkpoint::Checkpoint;
use super::examples::Encoded;
use super::fit::{FitConfig, StepLoss, fit};
use super::lora::Lora;
use super::loss::sft_loss;
use super::model::Model;
use super::progress::{Observer, Stage};
use crate::Result;

/// Examples that are measured in one pass.
const EXAMPLES: usize = 8;

/// Fits `lora` to the responses of `examples`. Equal seeds give equal adapters.
///
/// # Errors
/// See [`fit`].
pub fn sft(
    model: &Model,
    lora: &Lora,
    examples: &[Encoded],
    config: &FitConfig,
    seed: u64,
    checkpoint: &mut Checkpoint,
    observe: Observer,
) -> Result<()> {
    let loss_of =
        |items: &[usize]| batch_loss(model, lora, items.iter().map(|&item| &examples[item]));
    fit(
        Stage::Sft,
        lora,
        examples.len(),
        config,
        seed,
        checkpoint,
        loss_of,
        observe,
    )
}

/// The loss of some examples, with the figures of the log.
///
/// # Errors
/// A tensor operation failed.
pub fn batch_loss<'a>(
    model: &Model,
    lora: &Lora,
    examples: impl IntoIterator<Item = &'a Encoded, IntoIter: Clone>,
) -> Result<StepLoss> {
    let batch = batch(examples);
    let loss = sft_loss(&model.logprobs(&batch, Some(lora))?)?;
    Ok(StepLoss {
        loss,
        metrics: [("num_tokens", batch.n_tokens() as f64)].into(),
    })
}

/// Examples packed, each prompt with its response, and what all prompts begin with once.
pub fn batch<'a>(examples: impl IntoIterator<Item = &'a Encoded, IntoIter: Clone>) -> Batch {
    let examples = examples.into_iter();
    let mut batch = Batch::sharing(examples.clone().map(|example| example.prompt.as_slice()));
    for example in examples {
        batch.push(&example.prompt, [example.response.as_slice()]);
    }
    batch
}

/// Mean log-probability, nats a token, of the responses of `examples`, with an adapter or without.
///
/// # Errors
/// A tensor operation failed.
pub fn mean_logprob(model: &Model, lora: Option<&Lora>, examples: &[Encoded]) -> Result<f64> {
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
    }
    Ok(sum / n_tokens.max(1) as f64)
}
