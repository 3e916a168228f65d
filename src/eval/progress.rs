//! The events that an evaluation reports while it runs.

use super::method::Method;
use super::store::Answers;
use crate::train::TrainEvent;
use crate::{Error, Result};

/// An event of an evaluation.
#[derive(Debug)]
pub enum StudyEvent<'a> {
    /// The work begins.
    Started {
        /// The number of units of work.
        total: usize,
        /// The number of units that were done before.
        done: usize,
    },
    /// An event of the training of an adapter.
    Training {
        /// The task's name, and the user's id for a user's adapter.
        whose: &'a str,
        /// The event.
        event: TrainEvent,
    },
    /// A unit cannot be done.
    Failed {
        /// The task's name and the user's id.
        whose: &'a str,
        /// The method that was to answer.
        method: Method,
        /// The reason.
        error: &'a Error,
    },
    /// A unit is done.
    Answered {
        /// The answers.
        answers: &'a Answers,
        /// The number of units that are done.
        done: usize,
    },
}

/// A function that is called with every event; an error that it returns stops the work.
pub type StudyObserver<'a> = &'a mut (dyn FnMut(StudyEvent) -> Result<()> + Send);
