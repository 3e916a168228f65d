//! The manifest's records of the stages: for each, a hash of what it depended on, its settings and its figures.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::config::TrainConfig;
use super::train_event::Figures;
use crate::digest::digest;
use crate::home::{AdapterFolder, BaseRef, Manifest, Stage, StageRecord};
use crate::profile::feedback::Verdicts;
use crate::{Error, Result};

/// The record of a stage that has ended.
pub(super) fn record(
    inputs: String,
    config: &TrainConfig,
    stage: Stage,
    figures: &Figures,
    elapsed: Duration,
) -> StageRecord {
    let figures = figures
        .iter()
        .map(|(name, figure)| ((*name).to_owned(), *figure))
        .collect();
    StageRecord {
        inputs,
        settings: settings(config, stage),
        figures,
        seconds: elapsed.as_secs_f64(),
    }
}

impl TrainConfig {
    /// The settings that the stages of a manifest were trained with, and the defaults for stages that it does not have.
    #[must_use]
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let mut settings = json!(Self::default());
        // Settings that every stage records, such as the seed, are taken from the first stage, which comes last here.
        for record in manifest.stages.values().rev() {
            for (name, value) in record.settings.as_object().into_iter().flatten() {
                settings[name] = value.clone();
            }
        }
        // A manifest of an older version may have values that are not known any more: the defaults replace them.
        serde_json::from_value(settings).unwrap_or_default()
    }
}

/// The stage records of one folder.
pub(super) struct Records<'a> {
    folder: &'a AdapterFolder,
    manifest: Manifest,
}

impl<'a> Records<'a> {
    /// Reads the records of the folder's manifest. They count only if they are of this base.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub(super) fn open(folder: &'a AdapterFolder, base: &BaseRef) -> Result<Self> {
        // The path of the base's file may have changed.
        let hashes = |base: &BaseRef| (base.sha256.clone(), base.task_sha256.clone());
        let manifest = folder.manifest()?;
        let manifest = manifest.filter(|manifest| hashes(&manifest.base) == hashes(base));
        let manifest = Manifest {
            base: base.clone(),
            stages: manifest.map(|manifest| manifest.stages).unwrap_or_default(),
        };
        Ok(Self { folder, manifest })
    }

    /// The record of `stage`, if it has ended for these inputs and its file is there.
    pub(super) fn current(&self, stage: Stage, inputs: &str) -> Option<&StageRecord> {
        let record = self.manifest.stages.get(&stage)?;
        (record.inputs == inputs && output(self.folder, stage).exists()).then_some(record)
    }

    /// Adds the record of a stage, and writes the manifest.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub(super) fn add(&mut self, stage: Stage, record: StageRecord) -> Result<()> {
        self.manifest.stages.insert(stage, record);
        self.folder.save_manifest(&self.manifest)
    }
}

/// SHA-256 over all that the result of a stage depends on: the base, the settings, the files that it reads, and the
/// user's feedback.
///
/// # Errors
/// A file of an earlier stage is missing, or a file cannot be read.
pub(super) fn inputs(
    folder: &AdapterFolder,
    base: &BaseRef,
    config: &TrainConfig,
    stage: Stage,
) -> Result<String> {
    let files = match stage {
        Stage::Sft => vec![folder.history(), folder.held_out()],
        Stage::Mine => vec![folder.history(), folder.held_out(), folder.sft()],
        Stage::Dpo => vec![folder.pairs(), folder.held_out_pairs(), folder.sft()],
    };
    let hashes = files
        .iter()
        .map(|file| hash(file, folder, stage))
        .collect::<Result<Vec<_>>>()?;
    let mut inputs = json!([
        base.sha256,
        base.task_sha256,
        stage,
        settings(config, stage),
        hashes
    ]);
    // Without feedback the hash is the one of versions that knew no feedback, so their stages stay up to date.
    let verdicts = Verdicts::from_feedback(&folder.feedback()?);
    let feedback = match stage {
        Stage::Sft => json!([]),
        Stage::Mine => json!(verdicts.liked()),
        Stage::Dpo => json!(verdicts.pairs()),
    };
    if feedback != json!([]) {
        inputs = json!([inputs, feedback]);
    }
    Ok(digest(&inputs))
}

/// SHA-256 of a file; `None` if an optional file is missing.
fn hash(file: &Path, folder: &AdapterFolder, stage: Stage) -> Result<Option<String>> {
    if file.exists() {
        return Ok(Some(cope_convert::sha256(file)?));
    }
    let needed = match stage {
        Stage::Sft => None,
        Stage::Mine => (file == folder.sft()).then_some(Stage::Sft),
        Stage::Dpo if file == folder.sft() => Some(Stage::Sft),
        Stage::Dpo => (file == folder.pairs()).then_some(Stage::Mine),
    };
    match needed {
        Some(needed) => Err(Error::Input(format!(
            "the stage {stage} needs {}, which is not there; run the stage {needed} first",
            file.display()
        ))),
        None => Ok(None),
    }
}

/// The settings that the result of `stage` depends on. Their names are part of the hashes in existing manifests.
fn settings(config: &TrainConfig, stage: Stage) -> Value {
    let TrainConfig {
        lora,
        sft,
        mine,
        dpo,
        device,
        weight_type,
        seed,
        ..
    } = config;
    let mut settings = match stage {
        Stage::Sft => json!({"lora": lora, "sft": sft}),
        Stage::Mine => json!({"mine": mine}),
        Stage::Dpo => json!({"dpo": dpo}),
    };
    settings["seed"] = json!(seed);
    settings["device"] = json!(device);
    settings["weight_type"] = json!(weight_type);
    settings
}

/// The file that `stage` writes.
fn output(folder: &AdapterFolder, stage: Stage) -> std::path::PathBuf {
    match stage {
        Stage::Sft => folder.sft(),
        Stage::Mine => folder.pairs(),
        Stage::Dpo => folder.adapter(),
    }
}
