//! A model as its header shows it, with the memory that it would take.

use std::path::Path;

use anyhow::Result;
use cope_convert::gguf::Gguf;
use cope_llama::bases::ModelFacts;
use cope_llama::llama::ContextOptions;

/// Facts about a model, and the memory that it takes.
pub struct MeasuredModel {
    pub facts: ModelFacts,
    /// Bytes of a chat with a user's model, at the default size of the context.
    pub chat: u64,
    /// Bytes of a usual training; `None` if the model cannot be trained.
    pub training: Option<u64>,
}

impl MeasuredModel {
    /// Reads the header of the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let header = Gguf::open(path)?;
        let facts = ModelFacts::of(&header)?;
        Ok(Self {
            chat: ContextOptions::default().chat_bytes(&header, facts.bytes),
            training: usual_training(&header),
            facts,
        })
    }
}

#[cfg(feature = "train")]
fn usual_training(header: &Gguf) -> Option<u64> {
    cope_llama::train::usual_memory(header).ok()
}

#[cfg(not(feature = "train"))]
fn usual_training(_header: &Gguf) -> Option<u64> {
    None
}
