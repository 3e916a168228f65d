//! The checkpoint of a stage of training: the adapter, the optimiser's moments and the number of steps taken.
//!
//! The order of the items follows from the seed, so the rest of the stage depends on nothing else, and a resumed stage
//! ends with the same bytes as one that was never stopped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cope_convert::gguf::{self, Gguf, TensorData, Value};

use super::optimizer::AdamW;
use crate::{Error, Result};

/// Time between checkpoints: the most work that a crash can lose.
const INTERVAL: Duration = Duration::from_secs(10);

/// The best adapter so far by its score on the held-out items.
pub(super) struct Best {
    pub score: f64,
    /// Number of epochs since it was reached.
    pub stale: usize,
    /// The values of each variable.
    pub values: Vec<Vec<f32>>,
}

/// The checkpoint of one stage.
pub struct Checkpoint {
    path: PathBuf,
    inputs: String,
    saved: Instant,
}

impl Checkpoint {
    /// A checkpoint in the file `path`. `inputs` is the hash of what its stage depends on.
    pub fn at(path: &Path, inputs: &str) -> Self {
        Self {
            path: path.to_owned(),
            inputs: inputs.to_owned(),
            saved: Instant::now(),
        }
    }

    /// Restores the optimiser and its variables from the file, if it is of the same inputs. Returns the number of steps
    /// taken, which is 0 without such a file, and the best adapter so far.
    ///
    /// # Errors
    /// The file is of these inputs, but does not fit the adapter or cannot be read.
    pub(super) fn restore(&self, optimizer: &mut AdamW) -> Result<(usize, Option<Best>)> {
        // A damaged file, or one of a stage with other inputs, counts as no file.
        let Ok(file) = Gguf::open(&self.path) else {
            return Ok((0, None));
        };
        if file.str("cope.inputs").ok() != Some(&self.inputs) {
            return Ok((0, None));
        }
        let step = file.u32("cope.step")? as usize;
        let read = |name: &str, n: usize| {
            let tensor = file
                .tensor(name)
                .filter(|tensor| tensor.n_bytes == 4 * n as u64);
            let tensor = tensor.ok_or_else(|| self.damaged(name))?;
            let bytes = file.read(tensor)?;
            Ok(bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect())
        };
        optimizer.set_state(step, read)?;
        let Ok(score) = file.str("cope.best.score") else {
            return Ok((step, None));
        };
        let mut values = optimizer.values()?;
        for (index, values) in values.iter_mut().enumerate() {
            *values = read(&best_name(index), values.len())?;
        }
        let best = Best {
            score: score.parse().map_err(|_| self.damaged("cope.best.score"))?,
            stale: file.u32("cope.best.stale")? as usize,
            values,
        };
        Ok((step, Some(best)))
    }

    /// Saves the state after `step` steps, if the last checkpoint is older than [`INTERVAL`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save_now_and_then(
        &mut self,
        step: usize,
        optimizer: &AdamW,
        best: Option<&Best>,
    ) -> Result<()> {
        if self.saved.elapsed() < INTERVAL {
            return Ok(());
        }
        self.save(step, optimizer, best)
    }

    /// Saves the state after `step` steps.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(
        &mut self,
        step: usize,
        optimizer: &AdamW,
        best: Option<&Best>,
    ) -> Result<()> {
        let mut state = optimizer.state()?;
        let mut metadata = vec![
            ("cope.inputs".to_owned(), Value::from(self.inputs.as_str())),
            ("cope.step".to_owned(), Value::from(step as u32)),
        ];
        if let Some(best) = best {
            let values = best.values.iter().cloned().enumerate();
            state.extend(values.map(|(index, values)| (best_name(index), values)));
            metadata.extend([
                // The shortest decimal text of an f64 reads back as the same number.
                (
                    "cope.best.score".to_owned(),
                    best.score.to_string().as_str().into(),
                ),
                ("cope.best.stale".to_owned(), Value::from(best.stale as u32)),
            ]);
        }
        let tensors: Vec<_> = state
            .iter()
            .map(|(name, values)| TensorData::f32(name.as_str(), &[values.len() as u64], values))
            .collect();
        gguf::write(&self.path, &metadata, &tensors)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn damaged(&self, name: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            reason: format!("{name} is missing or has another size; delete the file"),
        }
    }
}

fn best_name(variable: usize) -> String {
    format!("best.{variable}")
}
