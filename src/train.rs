//! From a user's history to their adapter, in three stages, with a file in the user's folder after each:
//!
//! ```text
//! history.jsonl ─ SFT ─→ sft.gguf ─ mine ─→ pairs.jsonl ─ DPO ─→ adapter.gguf
//! ```
//!
//! A stage runs when what it depends on has changed since it last ended, and not otherwise: the base, the history, the
//! settings, and the files of the stages before. The manifest records all of these, and the figures.

pub mod batch;
mod block;
mod candle;
mod checkpoint;
mod config;
mod device;
pub mod dpo;
mod examples;
mod family;
pub mod fit;
pub mod generate;
pub mod head;
pub mod lora;
pub mod loss;
mod memory;
pub mod mine;
mod mining_journal;
pub mod model;
pub mod ops;
mod optimizer;
mod progress;
mod recipe;
mod record;
pub mod sft;
mod shape;
mod stack;
mod stem;
mod weights;

use std::path::Path;
use std::time::Instant;

pub use checkpoint::Checkpoint;
pub use config::TrainConfig;
pub use device::TrainDevice;
pub use examples::{Encoded, EncodedPair, Encoder};
pub use ops::attention::{Heads, Segment};
pub use ops::linear::WeightType;
pub use optimizer::AdamW;
pub use progress::{Figures, StepMetrics, TrainEvent, TrainObserver};
pub use shape::Shape;

use crate::home::{AdapterFolder, BaseRef, Lock, Stage, remove_if_there};
use crate::{Error, Result};
use recipe::Recipe;
use record::Records;

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Train(error.to_string())
    }
}

/// What to train: whose adapter, on which base, and how.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// The folder that holds the history, and that gets the adapter.
    pub folder: &'a AdapterFolder,
    /// The file of the base.
    pub base_path: &'a Path,
    /// What the manifest will say of that file.
    pub base: &'a BaseRef,
    /// The settings.
    pub config: &'a TrainConfig,
    /// The stages to bring up to date, in their order.
    pub stages: &'a [Stage],
}

/// Brings the stages of a training up to date.
///
/// # Errors
///
/// The history is empty or holds an item that is too long, the base cannot be trained on, a file of an earlier stage is
/// missing, the loss is not finite, or the observer stopped the work. Stages that had ended stay done.
pub fn train(training: Training, observe: TrainObserver) -> Result<()> {
    let lock = training.folder.lock()?;
    train_locked(&lock, training, observe)
}

/// Does the same for a caller who holds the folder's lock and keeps it.
///
/// # Errors
///
/// See [`train`].
pub fn train_locked(_lock: &Lock, training: Training, observe: TrainObserver) -> Result<()> {
    // On a thread of the pool, parallel loops begin without waking another thread and waiting for it.
    rayon::scope(|_| run_stages(training, observe))
}

fn run_stages(training: Training, observe: TrainObserver) -> Result<()> {
    let Training {
        folder,
        base,
        config,
        stages,
        ..
    } = training;
    let mut records = Records::open(folder, base)?;
    let mut recipe = None;
    for &stage in stages {
        let inputs = record::inputs(folder, base, config, stage)?;
        if let Some(record) = records.current(stage, &inputs) {
            observe(TrainEvent::UpToDate {
                stage,
                figures: record.figures.clone(),
            })?;
            continue;
        }
        let recipe = match &mut recipe {
            Some(recipe) => recipe,
            none => none.insert(Recipe::load(training, observe)?),
        };
        let started = Instant::now();
        let figures = match stage {
            Stage::Sft => recipe.sft(&inputs, observe)?,
            Stage::Mine => recipe.mine(&inputs, observe)?,
            Stage::Dpo => recipe.dpo(&inputs, observe)?,
        };
        records.add(
            stage,
            record::record(inputs, config, stage, &figures, started.elapsed()),
        )?;
        remove_if_there(&folder.checkpoint())?;
        if stage == Stage::Dpo {
            folder.remove_tasks_but(base.task_sha256.as_deref())?;
        }
        observe(TrainEvent::Ended { stage, figures })?;
    }
    Ok(())
}
