//! Training: from a user's history to their LoRA adapter, in four stages. Each stage leaves a file in the user's
//! folder:
//!
//! ```text
//! history.jsonl ─ SFT ─→ sft.gguf ─ mine ─→ pairs.jsonl ─ DPO ─→ dpo.gguf ─ calibrate ─→ adapter.gguf
//! ```
//!
//! - **SFT** ([`sft`]) fine-tunes a fresh adapter, or a copy of another user's ([`TrainConfig::start_from`]), on the
//!   user's own responses and on the base's own answers to everyday prompts ([`replay`]).
//! - **Mining** ([`mine`]) samples other responses to the same prompts, and makes pairs of a preferred and a rejected
//!   response.
//! - **DPO** ([`dpo`]) trains the adapter on to prefer the one to the other.
//! - **Calibration** ([`calibrate`]) chooses the adapter, its scale and the contrast on texts that were held out.
//!
//! A stage runs only if something that it depends on has changed since it last ended: the base, the history, the
//! settings, or the file of an earlier stage. The manifest records a hash of these, and the stage's figures.
//!
//! # Two implementations
//!
//! The model computes in one of two ways, from the same frozen weights and the same beginning (`stem`):
//!
//! - On the CPU, in operations of our own with gradients of their own ([`ops`], `block`, `stack`, [`head`]). candle's
//!   operations compute gradients of frozen weights too, and wait for each other; ours take less time and less memory,
//!   and multiply quantised and bf16 weights directly.
//! - On CUDA and Metal, in candle's operations (`candle`), which have kernels for these devices.
//!
//! In both, candle's autograd connects the gradients of a few large operations. The tests hold the two against each
//! other.

pub mod audit;
mod block;
mod block_reader;
mod block_stack;
pub mod calibrate;
mod candle;
mod checkpoint;
mod config;
mod device;
pub mod dpo;
mod encoder;
mod family;
mod file_table;
pub mod fit;
pub mod head;
mod hold_out;
mod journal;
mod layer_inputs;
pub mod lora;
pub mod loss;
mod memory;
pub mod mine;
pub mod model;
pub mod ops;
mod optimizer;
pub mod packing;
mod recipe;
mod record;
pub mod replay;
mod rotary;
pub mod sample;
pub mod sft;
mod shape;
mod start;
mod stem;
mod stop_flag;
mod target;
mod texts;
mod train_event;
mod weights;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub use checkpoint::Checkpoint;
pub use config::TrainConfig;
pub use device::TrainDevice;
pub use encoder::{Encoded, EncodedPair, Encoder};
pub use memory::usual_memory;
pub use ops::attention::{Heads, Segment};
pub use ops::linear::WeightType;
pub use optimizer::AdamW;
pub use shape::Shape;
pub use train_event::{Figures, PassObserver, StepMetrics, TrainEvent, TrainObserver};

use crate::home::{
    AdapterFolder, BaseRef, Calibration, CalibrationBasis, GainTexts, Lock, Stage, remove_if_there,
};
use crate::{Error, Result};
use recipe::Recipe;
use record::Records;

/// A training to do: whose adapter, on which base, and how.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// The folder that holds the history, and that the adapter is written to.
    pub folder: &'a AdapterFolder,
    /// The GGUF file of the base.
    pub base_path: &'a Path,
    /// The identity of the base, for the manifest.
    pub base: &'a BaseRef,
    /// The settings.
    pub config: &'a TrainConfig,
    /// The stages to bring up to date, in the order in which they run.
    pub stages: &'a [Stage],
    /// A flag that another thread sets to stop the training, without waiting for its next event. What the pass that is then
    /// running has computed is lost.
    pub stop: Option<&'a Arc<AtomicBool>>,
}

/// Brings the stages of a training up to date. Locks the folder while it works.
///
/// # Errors
///
/// Another process holds the lock, the history is empty or holds no item that is short enough, the base cannot be trained
/// on, a file of an earlier stage is missing, the loss is not finite, or the observer stopped the work. Stages that
/// have ended stay done.
pub fn train(training: Training, observe: TrainObserver) -> Result<()> {
    let lock = training.folder.lock()?;
    train_locked(&lock, training, observe)
}

/// [`train`] for a caller that already holds the folder's lock.
///
/// # Errors
///
/// See [`train`].
pub fn train_locked(_lock: &Lock, training: Training, observe: TrainObserver) -> Result<()> {
    start_threads()?;
    // A parallel loop starts faster from a thread of rayon's pool, since no other thread has to be woken and waited
    // for.
    rayon::scope(|_| run_stages(training, observe))
}

/// Starts the threads of rayon's pool, which panics without them when it is first used.
fn start_threads() -> Result<()> {
    // The pool is made once, or never.
    static FLAW: OnceLock<Option<String>> = OnceLock::new();
    let start = || {
        let error = rayon::ThreadPoolBuilder::new().build_global().err()?;
        // A pool that is there already is no error of the system's.
        std::error::Error::source(&error).map(ToString::to_string)
    };
    match FLAW.get_or_init(start) {
        None => Ok(()),
        Some(reason) => Err(Error::no_thread(reason)),
    }
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
    let hold_out = records.hold_out(config)?;
    let mut recipe = None;
    for &stage in stages {
        let inputs = record::inputs(folder, base, config, stage, hold_out)?;
        if let Some(record) = records.current(stage, &inputs) {
            let figures = record.figures.clone();
            observe(TrainEvent::UpToDate { stage, figures })?;
        } else {
            let recipe = match &mut recipe {
                Some(recipe) => recipe,
                none => none.insert(Recipe::load(training, hold_out, observe)?),
            };
            let started = Instant::now();
            let figures = match stage {
                Stage::Sft => recipe.sft(&inputs, observe)?,
                Stage::Mine => recipe.mine(&inputs, observe)?,
                Stage::Dpo => recipe.dpo(&inputs, observe)?,
                Stage::Calibrate => {
                    let (adapter, calibration) = recipe.calibrate(&inputs, observe)?;
                    let figures = calibration_figures(&calibration);
                    records.replace_adapter(&adapter, calibration)?;
                    figures
                }
            };
            let record = record::record(inputs, config, stage, &figures, started.elapsed());
            records.add(stage, record)?;
            remove_if_there(&folder.checkpoint())?;
            if matches!(stage, Stage::Dpo | Stage::Calibrate) {
                records.remove_unused_tasks()?;
            }
            observe(TrainEvent::Ended { stage, figures })?;
        }
        if stage == Stage::Calibrate
            && let Some(calibration) = records.calibration()
        {
            observe(TrainEvent::Calibrated(Box::new(calibration.clone())))?;
        }
    }
    Ok(())
}

/// The figures of calibration's record. The adapter's record has all of its choice.
fn calibration_figures(calibration: &Calibration) -> Figures {
    let mut figures = Figures::new();
    if let CalibrationBasis::Scores(scores) = &calibration.basis {
        figures.insert("calibration/logprob_default", scores.default.logprob.value);
        figures.insert("calibration/logprob", scores.chosen.logprob.value);
    }
    if let Some(gain) = calibration.gain.filter(|it| it.texts == GainTexts::HeldOut) {
        figures.insert("held_out/logprob_base", gain.base);
        figures.insert("held_out/logprob", gain.chosen);
    }
    figures
}
