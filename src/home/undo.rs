//! The adapter of the training before, which is kept until the next training and can be put back.

use std::fs;
use std::path::Path;

use super::{AdapterFolder, Lock, Manifest, Stage, write_atomic};
use crate::error::Missing;
use crate::{Error, Result};

impl AdapterFolder {
    /// Copies `adapter.gguf` to `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read; [`Error::Convert`] when the copy cannot be written.
    pub fn copy_adapter(&self, path: &Path) -> Result<()> {
        let adapter = self.adapter();
        let bytes = fs::read(&adapter).map_err(Error::io("read", &adapter))?;
        write_atomic(path, |file| file.write_all(&bytes))
    }

    /// Puts the adapter of the training before back in its place, with its record. The files of the other stages stay, so
    /// that the next training needs only to calibrate in order to have the newer adapter again.
    ///
    /// # Errors
    ///
    /// [`Missing::PreviousAdapter`] when there is none; a file cannot be renamed or written.
    pub fn restore_previous(&self, _lock: &Lock) -> Result<()> {
        let missing = || {
            let user = self.name().to_string();
            Error::from(Missing::PreviousAdapter { user })
        };
        let mut manifest = self.manifest()?.ok_or_else(missing)?;
        let previous = manifest.previous.clone().ok_or_else(missing)?;
        if !self.previous_adapter().is_file() {
            return Err(missing());
        }
        // Calibration's record goes first: were the work to end here, the next training would calibrate again.
        manifest.stages.remove(&Stage::Calibrate);
        self.save_manifest(&manifest)?;
        fs::rename(self.previous_adapter(), self.adapter())
            .map_err(Error::io("rename", self.previous_adapter()))?;
        self.save_manifest(&Manifest {
            base: previous.base.clone(),
            adapter: Some(previous),
            previous: None,
            stages: manifest.stages,
        })
    }
}
