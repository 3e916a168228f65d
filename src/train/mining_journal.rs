//! The journal of mining: the pairs found so far, in a file, so that a stop loses only the part that was being sampled.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::home::{read_jsonl, remove_if_there, write_jsonl};
use crate::profile::Pair;
use crate::{Error, Result};

/// The results for the examples mined so far.
pub(super) struct MiningJournal {
    path: PathBuf,
    inputs: String,
    pairs: Vec<Option<Pair>>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct JournalLine {
    inputs: String,
    pair: Option<Pair>,
}

impl MiningJournal {
    /// Number of examples that are mined together. The parts do not depend on where the work was stopped, since the
    /// other texts of a batch can change the last bits of a sample.
    pub(super) const PART: usize = 48;

    /// Reads the file at `path`, of a stage that depends on `inputs`. A file of other inputs, or a damaged one, counts
    /// as empty.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(path: &Path, inputs: &str) -> Result<Self> {
        let lines: Vec<JournalLine> = match read_jsonl(path) {
            Err(Error::Damaged { .. }) => Vec::new(),
            lines => lines?,
        };
        let ours = lines.iter().all(|line| line.inputs == inputs);
        let pairs = lines
            .into_iter()
            .filter(|_| ours)
            .map(|line| line.pair)
            .collect();
        Ok(Self {
            path: path.to_owned(),
            inputs: inputs.to_owned(),
            pairs,
        })
    }

    /// The pair of each example mined so far, in the order of the examples; `None` where the samples made none.
    pub(super) fn pairs(&self) -> &[Option<Pair>] {
        &self.pairs
    }

    /// Adds the pairs of a part, and writes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, pairs: Vec<Option<Pair>>) -> Result<()> {
        self.pairs.extend(pairs);
        let line = |pair: &Option<Pair>| JournalLine {
            inputs: self.inputs.clone(),
            pair: pair.clone(),
        };
        write_jsonl(&self.path, &self.pairs.iter().map(line).collect::<Vec<_>>())
    }

    /// Removes the file, once the pairs are written to their final place.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(self) -> Result<()> {
        remove_if_there(&self.path)
    }
}
