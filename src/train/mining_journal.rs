//! What mining has found so far, so that a stop costs no more than the part that was under way.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::home::{read_jsonl, remove_if_there, write_jsonl};
use crate::profile::Pair;
use crate::{Error, Result};

/// The pairs of the examples so far; `None` where there is no negative.
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
    /// Examples that are mined together: the same whether or not there is a stop between them, since what shares a
    /// batch can change a sample's last bits.
    pub(super) const PART: usize = 48;

    /// What the file at `path` holds for these inputs; nothing if it is of others, or damaged.
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

    /// In the order of the examples.
    pub(super) fn pairs(&self) -> &[Option<Pair>] {
        &self.pairs
    }

    /// Adds a part's pairs.
    pub(super) fn add(&mut self, pairs: Vec<Option<Pair>>) -> Result<()> {
        self.pairs.extend(pairs);
        let line = |pair: &Option<Pair>| JournalLine {
            inputs: self.inputs.clone(),
            pair: pair.clone(),
        };
        write_jsonl(&self.path, &self.pairs.iter().map(line).collect::<Vec<_>>())
    }

    /// Removes the file, once the pairs are where they belong.
    pub(super) fn remove(self) -> Result<()> {
        remove_if_there(&self.path)
    }
}
