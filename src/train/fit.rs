//! The loop that SFT and DPO share: shuffled batches, a loss, a clipped step, a line of metrics.

use candle_core::Tensor;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Best, Checkpoint};
use super::lora::Lora;
use super::optimizer::{AdamW, Gradients};
use super::progress::{StepMetrics, TrainEvent, TrainObserver};
use crate::home::Stage;
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
    /// Items that are computed at a time; a step's gradient is the sum over them. 0 is all of a step.
    pub micro_batch_size: usize,
    /// AdamW's λ.
    pub weight_decay: f32,
    /// Gradients longer than this are scaled down to it.
    pub max_grad_norm: f32,
    /// Part of the steps, 0 to 1, in which the learning rate rises.
    pub warmup: f32,
    /// How it falls to zero after.
    pub schedule: LrSchedule,
    /// Probability that a feature is kept from an adapter, 0 to 1.
    pub dropout: f32,
    /// Ends after so many epochs without a gain on the held-out items, and goes back to the best; 0 does neither.
    pub patience: usize,
}

/// The way of the learning rate after the warm-up, `p` going from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// `1 − p`
    Linear,
    /// `(1 + cos πp) / 2`
    Cosine,
}

impl FitConfig {
    /// Steps that `n_items` make.
    pub fn n_steps(&self, n_items: usize) -> usize {
        self.epochs * self.steps_an_epoch(n_items)
    }

    fn steps_an_epoch(&self, n_items: usize) -> usize {
        n_items.div_ceil(self.batch_size.max(1))
    }

    /// Learning rate of `step`, from 0, of `n_steps`: up over the warm-up, then down to zero.
    pub fn learning_rate_at(&self, step: usize, n_steps: usize) -> f32 {
        let warmup = (self.warmup * n_steps as f32).ceil();
        let (step, n_steps) = (step as f32, n_steps as f32);
        let factor = if step < warmup {
            (step + 1.0) / (warmup + 1.0)
        } else {
            let left = (n_steps - step) / (n_steps - warmup);
            match self.schedule {
                LrSchedule::Linear => left,
                LrSchedule::Cosine => 0.5 - 0.5 * (std::f32::consts::PI * left).cos(),
            }
        };
        self.learning_rate * factor
    }

    /// The items of every step, which depend on the seed alone.
    pub fn batches(&self, n_items: usize, seed: u64) -> Vec<Vec<usize>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..n_items).collect();
        let mut batches = Vec::with_capacity(self.n_steps(n_items));
        for _ in 0..self.epochs {
            order.shuffle(&mut random);
            batches.extend(order.chunks(self.batch_size.max(1)).map(<[usize]>::to_vec));
        }
        batches
    }
}

/// What an adapter is fitted to.
pub trait Objective {
    /// For messages and the log.
    fn stage(&self) -> Stage;

    /// Number of items.
    fn n_items(&self) -> usize;

    /// The mean loss of some items.
    ///
    /// # Errors
    /// A tensor operation failed.
    fn loss(&self, lora: &Lora, items: &[usize]) -> Result<StepLoss>;

    /// How good the adapter is on the held-out items, if there are any; more is better.
    ///
    /// # Errors
    /// A tensor operation failed.
    fn score(&self, lora: &Lora) -> Result<Option<f64>>;
}

/// The loss of some items, with what else is worth a line in the log.
pub struct StepLoss {
    /// What is differentiated, a scalar.
    pub loss: Tensor,
    /// How much it counts beside the losses of other items of the step: what it is a mean over.
    pub weight: f64,
    /// Rows that the model ran on.
    pub n_tokens: usize,
    /// Other means, by TRL's names.
    pub metrics: StepMetrics,
}

/// Fits `lora` to the objective, from where `checkpoint` was. Equal seeds give equal adapters.
///
/// # Errors
/// A loss or a gradient is not finite (its step is named), a tensor operation failed, or the observer stopped the work;
/// the checkpoint then holds the last good state.
pub fn fit(
    objective: &dyn Objective,
    lora: &Lora,
    config: &FitConfig,
    seed: u64,
    checkpoint: &mut Checkpoint,
    observe: TrainObserver,
) -> Result<()> {
    let (stage, n_items) = (objective.stage(), objective.n_items());
    let fitting = Fitting {
        objective,
        lora,
        config,
        seed,
        n_items,
        n_steps: config.n_steps(n_items),
    };
    let mut optimizer = AdamW::new(lora.variables(), config.weight_decay);
    let (done, mut best) = checkpoint.restore(&mut optimizer)?;
    observe(TrainEvent::Started {
        stage,
        total: fitting.n_steps,
        done,
    })?;
    let batches = config.batches(n_items, seed).into_iter().enumerate();
    for (step, items) in batches.skip(done) {
        if best
            .as_ref()
            .is_some_and(|best| best.stale >= config.patience)
        {
            break;
        }
        let mut metrics = match fitting.step(step, &items, &mut optimizer) {
            Ok(metrics) => metrics,
            Err(error) => {
                checkpoint.save(step, &optimizer, best.as_ref())?;
                return Err(in_step(error, step + 1, stage));
            }
        };
        if let Some(score) = fitting.score_after(step)? {
            metrics.insert("eval_loss", -score);
            best = Some(better(best, score, &optimizer)?);
        }
        let done = step + 1;
        checkpoint.save_now_and_then(done, &optimizer, best.as_ref())?;
        let event = TrainEvent::Step {
            stage,
            done,
            metrics,
        };
        if let Err(stopped) = observe(event) {
            checkpoint.save(done, &optimizer, best.as_ref())?;
            return Err(stopped);
        }
    }
    match best {
        Some(best) => optimizer.set_values(best.values),
        None => Ok(()),
    }
}

/// One call of [`fit`]: what stays the same in all of its steps.
struct Fitting<'a> {
    objective: &'a dyn Objective,
    lora: &'a Lora,
    config: &'a FitConfig,
    seed: u64,
    n_items: usize,
    n_steps: usize,
}

impl Fitting<'_> {
    /// Takes the step of this number, from 0, over `items`. Returns its metrics.
    fn step(&self, step: usize, items: &[usize], optimizer: &mut AdamW) -> Result<StepMetrics> {
        let config = self.config;
        // Each micro-batch draws a dropout mask of its own.
        let dropping = |part| {
            let number = (step * self.n_items + part) as u64;
            self.lora.dropping(config.dropout, self.seed, number)
        };
        let (gradients, mut metrics) = gradients_of(
            self.objective,
            dropping,
            items,
            config.micro_batch_size,
            optimizer,
        )?;
        let learning_rate = config.learning_rate_at(step, self.n_steps);
        let grad_norm = optimizer.update(gradients, learning_rate, config.max_grad_norm)?;
        let epoch = (step + 1) as f64 * config.epochs as f64 / self.n_steps as f64;
        metrics.extend([
            ("grad_norm", grad_norm),
            ("learning_rate", f64::from(learning_rate)),
            ("epoch", epoch),
        ]);
        Ok(metrics)
    }

    /// The adapter's score on the held-out items, where `step` ends an epoch and early stopping asks for it.
    fn score_after(&self, step: usize) -> Result<Option<f64>> {
        let steps_an_epoch = self.config.steps_an_epoch(self.n_items);
        if self.config.patience > 0 && (step + 1).is_multiple_of(steps_an_epoch) {
            self.objective.score(self.lora)
        } else {
            Ok(None)
        }
    }
}

/// The gradient of a step, summed over its micro-batches, and the means of their metrics. `lora`: the adapter for each
/// of them.
fn gradients_of(
    objective: &dyn Objective,
    lora: impl Fn(usize) -> Lora,
    items: &[usize],
    micro_batch_size: usize,
    optimizer: &AdamW,
) -> Result<(Gradients, StepMetrics)> {
    let size = if micro_batch_size == 0 {
        items.len()
    } else {
        micro_batch_size
    };
    let mut total: Option<(Gradients, f64)> = None;
    let (mut sums, mut n_tokens) = (StepMetrics::new(), 0);
    for (part, items) in items.chunks(size).enumerate() {
        let step = objective.loss(&lora(part), items)?;
        let loss = f64::from(step.loss.to_scalar::<f32>()?);
        if !loss.is_finite() {
            let advice = "a smaller learning rate may help";
            return Err(Error::Train(format!("the loss is {loss}; {advice}")));
        }
        for (name, value) in step.metrics.into_iter().chain([("loss", loss)]) {
            *sums.entry(name).or_default() += step.weight * value;
        }
        n_tokens += step.n_tokens;
        let gradients = optimizer.gradients(&step.loss.backward()?)?;
        total = Some(match total {
            None => (gradients, step.weight),
            Some((sum, weight)) => {
                let weights = [weight, step.weight].map(|x| (x / (weight + step.weight)) as f32);
                (weighted_sum(sum, &gradients, weights), weight + step.weight)
            }
        });
    }
    let (gradients, weight) = total.unwrap_or_default();
    sums.values_mut().for_each(|sum| *sum /= weight);
    sums.insert("num_tokens", n_tokens as f64);
    Ok((gradients, sums))
}

fn weighted_sum(mut sum: Gradients, more: &Gradients, [w, v]: [f32; 2]) -> Gradients {
    let values = sum.iter_mut().flatten().zip(more.iter().flatten());
    values.for_each(|(sum, more)| *sum = w * *sum + v * more);
    sum
}

/// What is kept after an epoch that came to `score`.
fn better(best: Option<Best>, score: f64, optimizer: &AdamW) -> Result<Best> {
    match best {
        Some(best) if best.score >= score => Ok(Best {
            stale: best.stale + 1,
            ..best
        }),
        _ => Ok(Best {
            score,
            stale: 0,
            values: optimizer.values()?,
        }),
    }
}

/// Says in which step an error came up.
fn in_step(error: Error, step: usize, stage: Stage) -> Error {
    match error {
        Error::Train(reason) => Error::Train(format!("step {step} of {stage}: {reason}")),
        other => other,
    }
}
