//! The journal of a stage whose work has parts: the results so far, in a file, so that a stop loses only the part that
//! was being worked on.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::home::{read_jsonl, remove_if_there, write_jsonl};
use crate::{Error, Result};

/// The results so far, each with the number of the item that it is of.
pub(super) struct Journal<T> {
    path: PathBuf,
    inputs: String,
    results: Vec<(usize, T)>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct JournalLine<T> {
    inputs: String,
    item: usize,
    result: T,
}

impl<T: Clone + Serialize + DeserializeOwned> Journal<T> {
    /// Reads the file at `path`, of a stage that depends on `inputs` and works on its items in this order. A file of other
    /// inputs or of another order, or a damaged one, counts as empty.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(path: &Path, inputs: &str, order: &[usize]) -> Result<Self> {
        let lines: Vec<JournalLine<T>> = match read_jsonl(path) {
            Err(Error::Damaged { .. }) => Vec::new(),
            lines => lines?,
        };
        let is_ours =
            |(line, item): (&JournalLine<T>, &usize)| line.inputs == inputs && line.item == *item;
        let ours = lines.len() <= order.len() && lines.iter().zip(order).all(is_ours);
        let lines = lines.into_iter().filter(|_| ours);
        Ok(Self {
            path: path.to_owned(),
            inputs: inputs.to_owned(),
            results: lines.map(|line| (line.item, line.result)).collect(),
        })
    }

    /// Number of results so far.
    pub(super) fn len(&self) -> usize {
        self.results.len()
    }

    /// The result of the item that comes `n`-th in the order, from 0, if it is there.
    pub(super) fn get(&self, n: usize) -> Option<&T> {
        self.results.get(n).map(|(_, result)| result)
    }

    /// The results so far, in the order of the items' numbers.
    pub(super) fn in_order(&self) -> Vec<(usize, T)> {
        let mut results = self.results.clone();
        results.sort_by_key(|(item, _)| *item);
        results
    }

    /// Adds the results of a part, and writes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, part: impl IntoIterator<Item = (usize, T)>) -> Result<()> {
        self.results.extend(part);
        let line = |(item, result): &(usize, T)| JournalLine {
            inputs: self.inputs.clone(),
            item: *item,
            result: result.clone(),
        };
        let lines: Vec<_> = self.results.iter().map(line).collect();
        write_jsonl(&self.path, &lines)
    }

    /// Removes the file, once the results are written to their final place.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove(self) -> Result<()> {
        remove_if_there(&self.path)
    }
}
