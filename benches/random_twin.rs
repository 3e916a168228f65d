//! A model with the contexts of base and user, whose adapter has random weights.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use cope_convert::gguf::Gguf;
use cope_llama::llama::{ContextOptions, LoraAdapter, Model, Twin};

use crate::random_adapter;

/// Opens the model at `base`.
pub fn open(base: &Path, options: &ContextOptions) -> Result<(Arc<Model>, Twin)> {
    let model = Model::load(base, Some(0))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("adapter.gguf");
    random_adapter::write(base, &file)?;
    let sha256 = cope_convert::sha256(base)?;
    let adapter = LoraAdapter::load(&model, &file, &Gguf::open(base)?, &sha256)?;
    let twin = Twin::new(&model, None, adapter, 1.0, options)?;
    Ok((model, twin))
}
