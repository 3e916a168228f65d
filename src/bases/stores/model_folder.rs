//! Folders with GGUF files: LM Studio keeps `PUBLISHER/MODEL/FILE.gguf`, GPT4All files alone.

use std::path::Path;

use super::super::hub_file::is_model_file;
use super::{ModelStore, StoredModels};
use crate::Result;
use crate::home::entries;

/// The most folders inside each other that are looked into: LM Studio has two, and links can lead back.
const DEPTH: usize = 4;

/// Adds the models in `folder`.
pub(super) fn look(folder: &Path, store: ModelStore, found: &mut StoredModels) -> Result<()> {
    look_into(folder, "", DEPTH, store, found)
}

fn look_into(
    folder: &Path,
    inside: &str,
    depth: usize,
    store: ModelStore,
    found: &mut StoredModels,
) -> Result<()> {
    for path in entries(folder)? {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let name = format!("{inside}{file}");
        if path.is_dir() {
            if depth > 0 && !file.starts_with('.') {
                let within = format!("{name}/");
                if let Err(error) = look_into(&path, &within, depth - 1, store, found) {
                    found.note(store, &name, super::one_line(&error));
                }
            }
        } else if is_model_file(&name) {
            if path.is_file() {
                found.add(store, &name, path);
            } else {
                found.note(store, &name, "the link to its file leads nowhere");
            }
        }
    }
    Ok(())
}
