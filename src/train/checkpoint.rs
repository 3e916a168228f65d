//! Where a stage that was stopped goes on from: the adapter, the optimiser's moments and the number of steps taken.
//!
//! The order of the items follows from the seed, so these are all that the rest of the stage depends on, and it ends in
//! the same bytes as if it had never been stopped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cope_convert::gguf::{self, Gguf, TensorData, Value};

use super::optimizer::AdamW;
use crate::{Error, Result};

/// How much work a sudden end may cost.
const INTERVAL: Duration = Duration::from_secs(10);

/// The checkpoint of one stage.
pub struct Checkpoint {
    path: PathBuf,
    inputs: String,
    saved: Instant,
}

impl Checkpoint {
    /// A checkpoint kept at `path`, of a stage that depends on `inputs`.
    pub fn at(path: &Path, inputs: &str) -> Self {
        Self {
            path: path.to_owned(),
            inputs: inputs.to_owned(),
            saved: Instant::now(),
        }
    }

    /// Sets the optimiser and its variables as they were saved, if they were for the same inputs; the steps taken.
    ///
    /// # Errors
    /// The file is of these inputs and yet does not fit, or cannot be read.
    pub(super) fn restore(&self, optimizer: &mut AdamW) -> Result<usize> {
        // A file that is damaged, or of a stage with other inputs, is as good as none.
        let Ok(file) = Gguf::open(&self.path) else {
            return Ok(0);
        };
        if file.str("cope.inputs").ok() != Some(&self.inputs) {
            return Ok(0);
        }
        let step = file.u32("cope.step")? as usize;
        optimizer.set_state(step, |name, n| {
            let tensor = file
                .tensor(name)
                .filter(|tensor| tensor.n_bytes == 4 * n as u64);
            let tensor = tensor.ok_or_else(|| self.damaged(name))?;
            let bytes = file.read(tensor)?;
            Ok(bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect())
        })?;
        Ok(step)
    }

    /// Saves the state after `step` steps, if the last time is long enough ago.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save_now_and_then(&mut self, step: usize, optimizer: &AdamW) -> Result<()> {
        if self.saved.elapsed() < INTERVAL {
            return Ok(());
        }
        self.save(step, optimizer)
    }

    /// Saves the state after `step` steps.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(&mut self, step: usize, optimizer: &AdamW) -> Result<()> {
        let state = optimizer.state()?;
        let metadata = [
            ("cope.inputs".to_owned(), Value::from(self.inputs.as_str())),
            ("cope.step".to_owned(), Value::from(step as u32)),
        ];
        let tensors: Vec<_> = state
            .iter()
            .map(|(name, values)| TensorData::f32(name.as_str(), &[values.len() as u64], values))
            .collect();
        gguf::write(&self.path, &metadata, &tensors)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn damaged(&self, name: &str) -> Error {
        Error::Input(format!(
            "{}: {name} is missing or of another size; delete the file",
            self.path.display()
        ))
    }
}
