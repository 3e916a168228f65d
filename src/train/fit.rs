//! The training loop that SFT and DPO share: shuffled batches, a loss, a clipped AdamW step, metrics, early stopping,
//! and checkpoints.

use candle_core::Tensor;
use clap::ValueEnum;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Best, Checkpoint};
use super::lora::Lora;
use super::optimizer::{AdamW, Gradients};
use super::train_event::{StepMetrics, TrainEvent, TrainObserver};
use crate::home::Stage;
use crate::{Error, Result};

/// The settings of the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitConfig {
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Passes over the items.
    pub epochs: usize,
    /// Items of a step.
    pub batch_size: usize,
    /// Items of a step that are computed at a time (gradient accumulation); 0 computes a whole step at once.
    pub micro_batch_size: usize,
    /// AdamW's λ.
    pub weight_decay: f32,
    /// Gradients with a larger norm are scaled down to this norm.
    pub max_grad_norm: f32,
    /// Fraction of the steps, 0 to 1, in which the learning rate rises to its peak.
    pub warmup: f32,
    /// How the learning rate falls to zero after the warm-up.
    pub schedule: LrSchedule,
    /// Probability of zeroing a feature on its way into the adapter (dropout), in [0, 1).
    pub dropout: f32,
    /// Early stopping: training ends after this many epochs without a better score on the held-out items, and returns
    /// to the best adapter. 0 turns this off.
    pub patience: usize,
}

/// The factor of the learning rate after the warm-up, while `p` goes from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// `1 − p`
    Linear,
    /// `(1 + cos πp) / 2`
    Cosine,
}

impl FitConfig {
    /// Number of steps of a training on `n_items`.
    pub fn n_steps(&self, n_items: usize) -> usize {
        self.epochs * self.steps_an_epoch(n_items)
    }

    fn steps_an_epoch(&self, n_items: usize) -> usize {
        n_items.div_ceil(self.batch_size.max(1))
    }

    /// The learning rate of `step`, from 0, of `n_steps`: it rises in the warm-up, then falls to zero.
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

    /// The items of every step, as indices below `n_items`. They are shuffled anew for each epoch, and depend only on
    /// the arguments and the settings.
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

/// A loss to minimise over some items.
pub trait Objective {
    /// The stage, for messages and the log.
    fn stage(&self) -> Stage;

    /// Number of items.
    fn n_items(&self) -> usize;

    /// The mean loss of the items with these indices.
    ///
    /// # Errors
    /// A tensor operation failed.
    fn loss(&self, lora: &Lora, items: &[usize]) -> Result<StepLoss>;

    /// The adapter's score on the held-out items, if there are any; higher is better.
    ///
    /// # Errors
    /// A tensor operation failed.
    fn score(&self, lora: &Lora) -> Result<Option<f64>>;
}

/// The loss of some items, with metrics for the log.
pub struct StepLoss {
    /// The loss, a scalar that can be differentiated.
    pub loss: Tensor,
    /// The weight of this loss among the micro-batches of a step: the number of tokens or pairs that it is the mean of.
    pub weight: f64,
    /// Number of rows that the model ran on.
    pub n_tokens: usize,
    /// Means of other metrics, by their names in TRL's logs.
    pub metrics: StepMetrics,
}

/// Fits `lora` to the objective. Resumes from `checkpoint`, if it has a state. Equal seeds give equal adapters.
///
/// # Errors
/// A loss or a gradient is not finite (its step is named), a tensor operation failed, or the work was stopped, by the
/// observer or within a step; the checkpoint then holds the last good state.
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
    let (done, best) = checkpoint.restore(&mut optimizer)?;
    observe(TrainEvent::Started {
        stage,
        total: fitting.n_steps,
        done,
    })?;
    if let Some(best) = fitting.take_steps(done, &mut optimizer, best, checkpoint, observe)? {
        optimizer.set_values(best.values)?;
    }
    Ok(())
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
    /// Takes the steps after the first `done` ones, until the last one, or until no score has been better than `best` for as
    /// many epochs as early stopping allows. Returns the best adapter, if adapters are scored.
    fn take_steps(
        &self,
        done: usize,
        optimizer: &mut AdamW,
        mut best: Option<Best>,
        checkpoint: &mut Checkpoint,
        observe: TrainObserver,
    ) -> Result<Option<Best>> {
        let mut n_taken = done;
        let batches = self.config.batches(self.n_items, self.seed);
        for (step, items) in batches.into_iter().enumerate().skip(done) {
            if best
                .as_ref()
                .is_some_and(|best| best.stale >= self.config.patience)
            {
                break;
            }
            if self.is_scored_after(step) {
                // A score that is stopped leaves no state to go on from: the step is taken again.
                checkpoint.save(step, optimizer, best.as_ref())?;
            }
            let mut metrics = match self.step(step, &items, optimizer) {
                Ok(metrics) => metrics,
                Err(error) => {
                    checkpoint.save(step, optimizer, best.as_ref())?;
                    return Err(in_step(error, step + 1, self.objective.stage()));
                }
            };
            if self.is_scored_after(step)
                && let Some(score) = self.objective.score(self.lora)?
            {
                metrics.insert("eval_loss", -score);
                best = Some(better(best, score, optimizer)?);
            }
            let done = step + 1;
            n_taken = done;
            checkpoint.save_now_and_then(done, optimizer, best.as_ref())?;
            let event = TrainEvent::Step {
                stage: self.objective.stage(),
                done,
                metrics,
            };
            if let Err(stopped) = observe(event) {
                checkpoint.save(done, optimizer, best.as_ref())?;
                return Err(stopped);
            }
        }
        // The stage can be stopped while it measures the adapter.
        checkpoint.save(n_taken, optimizer, best.as_ref())?;
        Ok(best)
    }

    /// Takes the step of this number, from 0, over `items`. Returns its metrics.
    fn step(&self, step: usize, items: &[usize], optimizer: &mut AdamW) -> Result<StepMetrics> {
        let config = self.config;
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

    /// Whether the adapter is scored after `step`: where it ends an epoch and early stopping asks for it.
    fn is_scored_after(&self, step: usize) -> bool {
        let steps_an_epoch = self.config.steps_an_epoch(self.n_items);
        self.config.patience > 0 && (step + 1).is_multiple_of(steps_an_epoch)
    }
}

/// The gradient of a step's mean loss, computed micro-batch by micro-batch, and the means of their metrics. `lora(i)`
/// is the adapter for micro-batch `i`, with a dropout mask of its own.
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

/// `w · sum + v · more`, value by value.
fn weighted_sum(mut sum: Gradients, more: &Gradients, [w, v]: [f32; 2]) -> Gradients {
    let values = sum.iter_mut().flatten().zip(more.iter().flatten());
    values.for_each(|(sum, more)| *sum = w * *sum + v * more);
    sum
}

/// The best adapter after an epoch with this score: the present one, or `best` with one more epoch since.
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

/// Adds to an error of training in which step it occurred.
fn in_step(error: Error, step: usize, stage: Stage) -> Error {
    match error {
        Error::Train(reason) => Error::Train(format!("step {step} of {stage}: {reason}")),
        other => other,
    }
}
