//! The manifest: a record of what an adapter was trained from and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Calibration, Stage};

/// The content of `manifest.json` in a user's or task's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The base model that the adapter was trained on.
    pub base: BaseRef,
    /// The stages that have ended.
    pub stages: BTreeMap<Stage, StageRecord>,
    /// The record of `adapter.gguf`. Manifests of versions without calibration have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterRecord>,
    /// The record of `previous.gguf`, the adapter of the training before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<AdapterRecord>,
}

/// The record of an adapter that chats answer with, now or before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterRecord {
    /// The base that the adapter was trained on.
    pub base: BaseRef,
    /// How its scale and contrast were chosen; `None` for an adapter of a version without calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The adapter of another user that its training started from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartAdapter>,
}

/// The adapter of another user that a training started from, in place of a random one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAdapter {
    /// The name of that user.
    pub user: String,
    /// The SHA-256 that the file `sft.gguf` of that user had, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The adapters of other users that live on in the adapters of this folder.
    pub fn starts(&self) -> impl Iterator<Item = &StartAdapter> {
        let stages = self.stages.values().map(|record| &record.start);
        let adapters = [&self.adapter, &self.previous].into_iter().flatten();
        stages.chain(adapters.map(|record| &record.start)).flatten()
    }
}

/// A reference to a base model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRef {
    /// The file's name if it is in the models folder, else its absolute path.
    pub file: String,
    /// The file's SHA-256, in hexadecimal.
    pub sha256: String,
    /// The model family, `general.architecture` of the GGUF file.
    pub architecture: String,
    /// The SHA-256 of the task adapter that the base carries, if any; a copy of it is in the user's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_sha256: Option<String>,
}

/// The record of a stage that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// SHA-256 over everything that the stage's result depends on, in hexadecimal.
    pub inputs: String,
    /// The stage's settings, including the seed.
    pub settings: serde_json::Value,
    /// The adapter of another user that the stage started from, if any. No stage but SFT has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartAdapter>,
    /// The stage's figures, by name.
    #[serde(deserialize_with = "with_present_names")]
    pub figures: BTreeMap<String, f64>,
    /// Seconds that the stage took; for a resumed stage, since it was resumed.
    pub seconds: f64,
}

/// Reads figures and renames those of older versions, whose figures on held-out texts began with `kept_apart/`.
fn with_present_names<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, f64>, D::Error> {
    let figures = BTreeMap::<String, f64>::deserialize(deserializer)?.into_iter();
    let renamed = figures.map(|(name, figure)| match name.strip_prefix("kept_apart/") {
        Some(rest) => (format!("held_out/{rest}"), figure),
        None => (name, figure),
    });
    Ok(renamed.collect())
}
