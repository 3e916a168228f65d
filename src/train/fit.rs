//! The loop that SFT and DPO share: shuffled batches, a loss, a clipped step, a line of metrics.

use candle_core::Tensor;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::lora::Lora;
use super::optimizer::AdamW;
use super::progress::{Event, Metrics, Observer, Stage};
use crate::{Error, Result};

/// How long and how fast to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitConfig {
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Passes over the items.
    pub epochs: usize,
    /// Items a step.
    pub batch_size: usize,
    /// AdamW's λ.
    pub weight_decay: f32,
    /// Gradients longer than this are scaled down to it.
    pub max_grad_norm: f32,
    /// Part of the steps, 0 to 1, in which the learning rate rises; it falls linearly to zero after.
    pub warmup: f32,
}

/// A step's loss, a scalar, with what else is worth a line in the log.
pub struct StepLoss {
    /// What is differentiated.
    pub loss: Tensor,
    /// Beside `loss`, `grad_norm` and `learning_rate`.
    pub metrics: Metrics,
}

impl FitConfig {
    /// Steps that `n_items` make.
    pub fn n_steps(&self, n_items: usize) -> usize {
        self.epochs * n_items.div_ceil(self.batch_size.max(1))
    }

    /// Learning rate of `step`, from 0, of `n_steps`: up over the warm-up, then linearly down to zero.
    pub fn learning_rate_at(&self, step: usize, n_steps: usize) -> f32 {
        let warmup = (self.warmup * n_steps as f32).ceil();
        let step = step as f32;
        let factor = if step < warmup {
            (step + 1.0) / (warmup + 1.0)
        } else {
            (n_steps as f32 - step) / (n_steps as f32 - warmup)
        };
        self.learning_rate * factor
    }
}

/// Fits `lora` to `n_items` items, whose losses `loss_of` computes from their indices, from where `checkpoint` was.
///
/// # Errors
/// A loss is not finite (its step is named), a tensor operation failed, or the observer stopped the work; the
/// checkpoint then holds the last good state.
#[expect(
    clippy::too_many_arguments,
    reason = "the two stages that call it differ in each of them"
)]
pub fn fit(
    stage: Stage,
    lora: &Lora,
    n_items: usize,
    config: &FitConfig,
    seed: u64,
    checkpoint: &mut Checkpoint,
    mut loss_of: impl FnMut(&[usize]) -> Result<StepLoss>,
    observe: Observer,
) -> Result<()> {
    let n_steps = config.n_steps(n_items);
    let mut optimizer = AdamW::new(lora.variables(), config.weight_decay);
    let done = checkpoint.restore(&mut optimizer)?;
    observe(Event::Started {
        stage,
        total: n_steps,
        done,
    })?;
    for (step, items) in batches(n_items, config, seed)
        .into_iter()
        .enumerate()
        .skip(done)
    {
        let StepLoss { loss, mut metrics } = loss_of(&items)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            checkpoint.save(step, &optimizer)?;
            let advice = "a smaller learning rate may help";
            return Err(Error::Train(format!(
                "the loss of step {} of {stage} is {value}; {advice}",
                step + 1
            )));
        }
        let learning_rate = config.learning_rate_at(step, n_steps);
        let grad_norm = optimizer.update(&loss.backward()?, learning_rate, config.max_grad_norm)?;
        metrics.extend([
            ("loss", value),
            ("grad_norm", grad_norm),
            ("learning_rate", f64::from(learning_rate)),
            (
                "epoch",
                (step + 1) as f64 * config.epochs as f64 / n_steps as f64,
            ),
        ]);
        checkpoint.save_now_and_then(step + 1, &optimizer)?;
        if let Err(stopped) = observe(Event::Step {
            stage,
            done: step + 1,
            metrics,
        }) {
            checkpoint.save(step + 1, &optimizer)?;
            return Err(stopped);
        }
    }
    Ok(())
}

/// The items of every step, which depend on the seed alone.
fn batches(n_items: usize, config: &FitConfig, seed: u64) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..n_items).collect();
    let mut batches = Vec::with_capacity(config.n_steps(n_items));
    for _ in 0..config.epochs {
        order.shuffle(&mut random);
        batches.extend(
            order
                .chunks(config.batch_size.max(1))
                .map(<[usize]>::to_vec),
        );
    }
    batches
}
