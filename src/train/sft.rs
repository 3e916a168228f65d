//! Supervised fine-tuning on the user's own responses (OPPU), the first stage.

use super::batch::Batch;
use super::examples::Encoded;
use super::fit::{FitConfig, StepLoss, fit};
use super::lora::Lora;
use super::loss::sft_loss;
use super::model::Model;
use super::progress::{Observer, Stage};
use crate::Result;

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
    observe: Observer,
) -> Result<()> {
    let loss_of = |items: &[usize]| {
        let batch = batch(items.iter().map(|&item| &examples[item]));
        let loss = sft_loss(&model.logprobs(&batch, Some(lora))?)?;
        Ok(StepLoss {
            loss,
            metrics: [("num_tokens", batch.n_tokens() as f64)].into(),
        })
    };
    fit(
        Stage::Sft,
        lora,
        examples.len(),
        config,
        seed,
        loss_of,
        observe,
    )
}

/// Examples packed, each prompt with its response.
pub fn batch<'a>(examples: impl IntoIterator<Item = &'a Encoded>) -> Batch {
    let mut batch = Batch::default();
    for example in examples {
        batch.push(&example.prompt, [example.response.as_slice()]);
    }
    batch
}
