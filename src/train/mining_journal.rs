//! The journal of mining: the pairs found so far, in a file, so that a stop loses only the part that was being sampled.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sample::SLOTS;
use crate::home::{read_jsonl, remove_if_there, write_jsonl};
use crate::profile::Pair;
use crate::{Error, Result};

/// The results for the examples mined so far.
pub(super) struct MiningJournal {
    path: PathBuf,
    inputs: String,
    mined: Vec<Mined>,
}

/// The pair of an example, by its number; `None` where the samples made none.
pub(super) type Mined = (usize, Option<Pair>);

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct JournalLine {
    inputs: String,
    example: usize,
    pair: Option<Pair>,
}

impl MiningJournal {
    /// Number of examples that are mined together: all that are sampled at a time. The parts do not depend on where the work
    /// was stopped, since the other texts of a batch can change the last bits of a sample.
    pub(super) const PART: usize = SLOTS;

    /// Reads the file at `path`, of a stage that depends on `inputs` and mines its examples in this order. A file of other
    /// inputs or of another order, or a damaged one, counts as empty.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(path: &Path, inputs: &str, order: &[usize]) -> Result<Self> {
        let lines: Vec<JournalLine> = match read_jsonl(path) {
            Err(Error::Damaged { .. }) => Vec::new(),
            lines => lines?,
        };
        let is_ours = |(line, example): (&JournalLine, &usize)| {
            line.inputs == inputs && line.example == *example
        };
        let ours = lines.len() <= order.len() && lines.iter().zip(order).all(is_ours);
        let lines = lines.into_iter().filter(|_| ours);
        let mined = lines.map(|line| (line.example, line.pair)).collect();
        Ok(Self {
            path: path.to_owned(),
            inputs: inputs.to_owned(),
            mined,
        })
    }

    /// Number of examples mined so far.
    pub(super) fn len(&self) -> usize {
        self.mined.len()
    }

    /// The examples mined so far, in the order of their numbers.
    pub(super) fn in_order(&self) -> Vec<Mined> {
        let mut mined = self.mined.clone();
        mined.sort_by_key(|(example, _)| *example);
        mined
    }

    /// Adds the pairs of a part, and writes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, mined: impl IntoIterator<Item = Mined>) -> Result<()> {
        self.mined.extend(mined);
        let line = |(example, pair): &Mined| JournalLine {
            inputs: self.inputs.clone(),
            example: *example,
            pair: pair.clone(),
        };
        write_jsonl(&self.path, &self.mined.iter().map(line).collect::<Vec<_>>())
    }

    /// Removes the file, once the pairs are written to their final place.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(self) -> Result<()> {
        remove_if_there(&self.path)
    }
}
