//! What training tells about itself while it runs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Result;
use crate::home::Stage;

/// Figures by name; the names are those of TRL's logs.
pub type StepMetrics = BTreeMap<&'static str, f64>;

/// Figures of a whole stage, by name.
pub type Figures = BTreeMap<&'static str, f64>;

/// A line of the training log.
#[derive(Serialize)]
pub(super) struct LogLine<'a> {
    /// Which stage.
    pub stage: Stage,
    /// The step, from 1.
    pub step: usize,
    /// Its figures.
    #[serde(flatten)]
    pub metrics: &'a StepMetrics,
}

/// What has just happened.
#[derive(Clone, Debug)]
pub enum TrainEvent {
    /// A stage has ended before, for the same inputs.
    UpToDate {
        /// Which.
        stage: Stage,
        /// The figures of that time.
        figures: BTreeMap<String, f64>,
    },
    /// What the stages that are to run will take on the CPU.
    Memory {
        /// The peak, bytes.
        bytes: u64,
    },
    /// A stage begins, or goes on from where it was stopped.
    Started {
        /// Which.
        stage: Stage,
        /// Steps (mining: prompts) in all.
        total: usize,
        /// Steps that were taken before the stop.
        done: usize,
    },
    /// A step was taken.
    Step {
        /// Of which stage.
        stage: Stage,
        /// Steps taken so far.
        done: usize,
        /// Its figures.
        metrics: StepMetrics,
    },
    /// A stage has ended and its file is in place.
    Ended {
        /// Which.
        stage: Stage,
        /// Its figures.
        figures: Figures,
    },
}

/// Told of every event; an error that it returns stops the work.
pub type TrainObserver<'a> = &'a mut (dyn FnMut(TrainEvent) -> Result<()> + Send);
