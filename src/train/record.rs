//! What the manifest says of each stage: what it depended on, its settings and its figures.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::config::TrainConfig;
use super::progress::Figures;
use crate::hash::digest;
use crate::home::{AdapterFolder, BaseRef, Manifest, Stage, StageRecord};
use crate::profile::feedback::Verdicts;
use crate::{Error, Result};

/// What is kept of a stage that has ended.
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
    /// The settings that the stages of a manifest were trained by; the defaults of those that were not.
    #[must_use]
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let mut settings = json!(Self::default());
        // The settings that all stages have, such as the seed, are those of the first stage.
        for record in manifest.stages.values().rev() {
            for (name, value) in record.settings.as_object().into_iter().flatten() {
                settings[name] = value.clone();
            }
        }
        // What an older program has written may not be known any more.
        serde_json::from_value(settings).unwrap_or_default()
    }
}

/// The records of one user.
pub(super) struct Records<'a> {
    folder: &'a AdapterFolder,
    manifest: Manifest,
}

impl<'a> Records<'a> {
    /// Those of the user's manifest, if it is of this base; else none.
    pub(super) fn open(folder: &'a AdapterFolder, base: &BaseRef) -> Result<Self> {
        // Where the file lies makes no difference.
        let of = |base: &BaseRef| (base.sha256.clone(), base.task_sha256.clone());
        let known = folder.manifest()?.filter(|it| of(&it.base) == of(base));
        let manifest = Manifest {
            base: base.clone(),
            stages: known.map(|it| it.stages).unwrap_or_default(),
        };
        Ok(Self { folder, manifest })
    }

    /// The record of a stage that has ended for these inputs, and whose file is there.
    pub(super) fn current(&self, stage: Stage, inputs: &str) -> Option<&StageRecord> {
        let record = self.manifest.stages.get(&stage)?;
        (record.inputs == inputs && output(self.folder, stage).exists()).then_some(record)
    }

    pub(super) fn add(&mut self, stage: Stage, record: StageRecord) -> Result<()> {
        self.manifest.stages.insert(stage, record);
        self.folder.save_manifest(&self.manifest)
    }
}

/// SHA-256 over what the result of a stage depends on: the base, the settings, and the files that it reads.
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
    // What nobody has said anything of is as it was.
    let verdicts = Verdicts::of(&folder.feedback()?);
    let said = match stage {
        Stage::Sft => json!([]),
        Stage::Mine => json!(verdicts.liked()),
        Stage::Dpo => json!(verdicts.pairs()),
    };
    if said != json!([]) {
        inputs = json!([inputs, said]);
    }
    Ok(digest(&inputs))
}

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

fn output(folder: &AdapterFolder, stage: Stage) -> std::path::PathBuf {
    match stage {
        Stage::Sft => folder.sft(),
        Stage::Mine => folder.pairs(),
        Stage::Dpo => folder.adapter(),
    }
}
