//! The events by which training reports its progress.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::Result;
use crate::home::{AdapterSetting, Calibration, Stage};

/// Metrics of one step by name; the names are those of TRL's logs.
pub type StepMetrics = BTreeMap<&'static str, f64>;

/// Figures of a whole stage, by name.
pub type Figures = BTreeMap<&'static str, f64>;

/// A line of the training log.
#[derive(Serialize)]
pub(super) struct LogLine<'a> {
    /// The stage.
    pub stage: Stage,
    /// The number of the step, from 1.
    pub step: usize,
    /// The metrics of the step.
    #[serde(flatten)]
    pub metrics: &'a StepMetrics,
}

/// A line of the training log about a setting that calibration has measured.
#[derive(Serialize)]
pub(super) struct SettingLine {
    /// The stage: calibration.
    pub stage: Stage,
    /// The setting; its stage is that of the adapter.
    pub setting: AdapterSetting,
    /// Mean log-probability of the texts' tokens, in nats.
    pub logprob: f64,
    /// Share of the texts' tokens that have the highest score.
    pub accuracy: f64,
    /// Everyday questions that are answered correctly.
    pub n_right: usize,
}

/// An event of a training.
#[derive(Clone, Debug)]
pub enum TrainEvent {
    /// A stage is up to date: it has ended before, for the same inputs.
    UpToDate {
        /// The stage.
        stage: Stage,
        /// The figures from when it ran.
        figures: BTreeMap<String, f64>,
    },
    /// The estimated memory of a training on the CPU.
    Memory {
        /// The peak of the stages that will run, in bytes.
        bytes: u64,
    },
    /// Items are left out of this training, since they have more tokens than the model's context.
    LeftOut {
        /// The file that holds them, one a line.
        file: PathBuf,
        /// The numbers of their lines, from 1.
        lines: Vec<usize>,
        /// The number of tokens of the model's context.
        n_ctx: usize,
    },
    /// The base answers prompts whose answers are replayed, before SFT.
    Replay {
        /// Number of answers so far.
        done: usize,
        /// Number of answers in all.
        total: usize,
    },
    /// A pass of an audit has ended.
    Audit {
        /// Number of passes so far.
        done: usize,
        /// Number of passes in all.
        total: usize,
    },
    /// Work beside the steps goes on: a part of the base was loaded, or a pass over held-out texts or pairs has ended. It lets
    /// the observer stop the work there too.
    Pass,
    /// A stage begins, or resumes where it was stopped.
    Started {
        /// The stage.
        stage: Stage,
        /// Number of steps in all; mining counts prompts.
        total: usize,
        /// Number of steps taken before the stop.
        done: usize,
    },
    /// A step was taken.
    Step {
        /// The stage.
        stage: Stage,
        /// Number of steps taken so far.
        done: usize,
        /// The metrics of the step.
        metrics: StepMetrics,
    },
    /// Everything that the stage has done so far is in a file, from which a stopped training resumes. The stages SFT and DPO
    /// do not tell this: when they are stopped, they save every step that they have told.
    Saved {
        /// The stage.
        stage: Stage,
    },
    /// A stage has ended, and its file is in place.
    Ended {
        /// The stage.
        stage: Stage,
        /// The figures of the stage.
        figures: Figures,
    },
    /// Calibration has ended, now or before, with this choice. The event follows the stage's own last event.
    Calibrated(Box<Calibration>),
}

impl TrainEvent {
    /// Whether a training that is stopped now will not have to do this again.
    pub fn is_kept(&self) -> bool {
        match self {
            Self::Step { stage, .. } => matches!(stage, Stage::Sft | Stage::Dpo),
            Self::Saved { .. } | Self::Ended { .. } => true,
            Self::UpToDate { .. }
            | Self::Memory { .. }
            | Self::LeftOut { .. }
            | Self::Replay { .. }
            | Self::Audit { .. }
            | Self::Pass
            | Self::Started { .. }
            | Self::Calibrated(_) => false,
        }
    }
}

/// A function that is called after each pass of a model, or another part of long work. It stops the work by returning an
/// error.
pub type PassObserver<'a> = &'a mut dyn FnMut() -> Result<()>;

/// A function that is called with every event. It stops the training by returning an error.
pub type TrainObserver<'a> = &'a mut (dyn FnMut(TrainEvent) -> Result<()> + Send);
