//! What an evaluation tells about itself while it runs.

use super::method::Method;
use super::store::Answers;
use crate::train::TrainEvent;
use crate::{Error, Result};

/// What has just happened.
#[derive(Debug)]
pub enum StudyEvent<'a> {
    /// The work begins.
    Started {
        /// Units in all.
        total: usize,
        /// Units that were done before.
        done: usize,
    },
    /// Something of a training.
    Training {
        /// Whose adapter it is: a task's name, and a user's id.
        whose: &'a str,
        /// What.
        event: TrainEvent,
    },
    /// A unit cannot be done.
    Failed {
        /// Whose it is: a task's name, and a user's id.
        whose: &'a str,
        /// Who was to answer.
        method: Method,
        /// Why.
        error: &'a Error,
    },
    /// A unit is done.
    Answered {
        /// The answers.
        answers: &'a Answers,
        /// Units that are done.
        done: usize,
    },
}

/// Told of every event; an error that it returns stops the work.
pub type StudyObserver<'a> = &'a mut (dyn FnMut(StudyEvent) -> Result<()> + Send);
