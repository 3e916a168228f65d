//! The manifest's records: for each stage a hash of what it depended on, its settings and its figures; for each adapter
//! that chats answer or answered with, its base and how it was calibrated.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cope_convert::Adapter;
use serde_json::{Value, json};

use super::calibrate::{self, everyday};
use super::config::TrainConfig;
use super::hold_out::HoldOut;
use super::replay;
use super::train_event::Figures;
use crate::digest::digest;
use crate::home::{
    AdapterFolder, AdapterRecord, BaseRef, Calibration, Manifest, NoCalibration, Stage,
    StageRecord, StartAdapter,
};
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
    let mut settings = settings(config, stage);
    // These are no part of the inputs' hash, which has the numbers of texts that are held out and replayed.
    if let Some(hold_out) = config.hold_out {
        settings["hold_out"] = json!(hold_out);
    }
    if let Some(replay) = config.replay {
        settings["replay"] = json!(replay);
    }
    if let Some(rope_factors) = config.rope_factors {
        settings["rope_factors"] = json!(rope_factors);
    }
    StageRecord {
        inputs,
        settings,
        start: start(config, stage).cloned(),
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
        let config: Self = serde_json::from_value(settings).unwrap_or_default();
        let sft = manifest.stages.get(&Stage::Sft);
        Self {
            start: sft.and_then(|sft| sft.start.clone()),
            ..config
        }
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
        let mut manifest = Manifest {
            base: base.clone(),
            stages: BTreeMap::new(),
            adapter: None,
            previous: None,
        };
        if let Some(last) = folder.manifest()? {
            // In versions without calibration no adapter had a record. An adapter without a record beside one with it
            // was put aside by a training that was stopped before it had replaced it.
            let older =
                (last.previous.is_none() && folder.adapter().exists()).then(|| AdapterRecord {
                    base: last.base.clone(),
                    calibration: None,
                    start: None,
                });
            manifest.adapter = last.adapter.or(older);
            manifest.previous = last.previous;
            if hashes(&last.base) == hashes(base) {
                manifest.stages = last.stages;
            }
        }
        let records = Self { folder, manifest };
        records.adopt_older_training()?;
        Ok(records)
    }

    /// Takes `adapter.gguf` for the result of DPO where a version without calibration has trained: in those versions
    /// it was.
    fn adopt_older_training(&self) -> Result<()> {
        let has_ended = |stage| self.manifest.stages.contains_key(&stage);
        let (adapter, dpo) = (self.folder.adapter(), self.folder.dpo());
        if !has_ended(Stage::Dpo)
            || has_ended(Stage::Calibrate)
            || dpo.exists()
            || !adapter.exists()
        {
            return Ok(());
        }
        self.folder.copy_adapter(&dpo)
    }

    /// The texts that a training with these settings holds out. Where a version without calibration and replay has trained
    /// on all texts, and nothing has changed since, none are held out, so that the training stays up to date.
    ///
    /// # Errors
    /// The settings hold out all texts; a file cannot be read.
    pub(super) fn hold_out(&self, config: &TrainConfig) -> Result<HoldOut> {
        let n_texts = self.folder.profile()?.history.len();
        let hold_out = HoldOut::new(config.hold_out, n_texts)?;
        if config.hold_out.is_none() && config.replay.is_none() {
            let nothing = HoldOut::Nothing(NoCalibration::OlderTraining);
            let inputs = inputs(
                self.folder,
                &self.manifest.base,
                config,
                Stage::Sft,
                nothing,
            )?;
            let sft = self.current(Stage::Sft, &inputs);
            let is_older = |sft: &StageRecord| {
                let options = ["hold_out", "replay"];
                options.iter().all(|name| sft.settings.get(name).is_none())
            };
            if sft.is_some_and(is_older) {
                return Ok(nothing);
            }
        }
        Ok(hold_out)
    }

    /// The record of `stage`, if it has ended for these inputs and its file is there.
    pub(super) fn current(&self, stage: Stage, inputs: &str) -> Option<&StageRecord> {
        let record = self.manifest.stages.get(&stage)?;
        (record.inputs == inputs && output(self.folder, stage).exists()).then_some(record)
    }

    /// The calibration of `adapter.gguf`, if it has a record.
    pub(super) fn calibration(&self) -> Option<&Calibration> {
        self.manifest.adapter.as_ref()?.calibration.as_ref()
    }

    /// Replaces `adapter.gguf`, and keeps the one before as `previous.gguf` if it differs. The caller then writes the
    /// manifest, by adding calibration's record. However often this is stopped and repeated, the adapter before stays.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(super) fn replace_adapter(
        &mut self,
        adapter: &Adapter,
        calibration: Calibration,
    ) -> Result<()> {
        let path = self.folder.adapter();
        let is_same = Adapter::read_gguf(&path).is_ok_and(|before| before == *adapter);
        if !is_same {
            if let Some(before) = self.manifest.adapter.take().filter(|_| path.exists()) {
                self.folder.copy_adapter(&self.folder.previous_adapter())?;
                self.manifest.previous = Some(before);
                self.folder.save_manifest(&self.manifest)?;
            }
            adapter.write_gguf(&path)?;
        }
        let sft = self.manifest.stages.get(&Stage::Sft);
        self.manifest.adapter = Some(AdapterRecord {
            base: self.manifest.base.clone(),
            calibration: Some(calibration),
            start: sft.and_then(|sft| sft.start.clone()),
        });
        Ok(())
    }

    /// Removes the copies of task adapters that neither this training nor an adapter that is kept needs.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(super) fn remove_unused_tasks(&self) -> Result<()> {
        let Manifest {
            base,
            adapter,
            previous,
            ..
        } = &self.manifest;
        let kept = [adapter, previous].into_iter().flatten();
        let bases = kept.map(|record| &record.base).chain([base]);
        let tasks: Vec<_> = bases
            .filter_map(|base| base.task_sha256.as_deref())
            .collect();
        self.folder.remove_tasks_but(&tasks)
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

/// SHA-256 over all that the result of a stage depends on: the base, the settings, the files that it reads, the number
/// of texts that are held out of the history, the factors of the rotary frequencies where they are not the usual ones, the
/// adapter that SFT starts from, and the user's feedback.
///
/// # Errors
/// A file of an earlier stage is missing, or a file cannot be read.
pub(super) fn inputs(
    folder: &AdapterFolder,
    base: &BaseRef,
    config: &TrainConfig,
    stage: Stage,
    hold_out: HoldOut,
) -> Result<String> {
    let files = match stage {
        Stage::Sft => vec![folder.history(), folder.held_out()],
        Stage::Mine => vec![folder.history(), folder.held_out(), folder.sft()],
        Stage::Dpo => vec![folder.pairs(), folder.held_out_pairs(), folder.sft()],
        Stage::Calibrate => {
            vec![
                folder.history(),
                folder.held_out(),
                folder.sft(),
                folder.dpo(),
            ]
        }
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
    for addition in additions(folder, config, stage, hold_out)? {
        inputs = json!([inputs, addition]);
    }
    Ok(digest(&inputs))
}

/// The inputs of a stage that only some trainings have. Without them the hash is the one of versions that knew none of
/// them, so that the stages of those versions stay up to date.
fn additions(
    folder: &AdapterFolder,
    config: &TrainConfig,
    stage: Stage,
    hold_out: HoldOut,
) -> Result<Vec<Value>> {
    let mut additions = Vec::new();
    if hold_out.n_texts() > 0 {
        additions.push(json!({ "hold_out": hold_out.n_texts() }));
    }
    if stage == Stage::Sft {
        let n_texts = folder.profile()?.history.len();
        let n_trained = n_texts.saturating_sub(hold_out.n_texts());
        let n_replayed = replay::n_items(config, hold_out, n_trained);
        additions.extend((n_replayed > 0).then(|| replay::inputs(n_replayed)));
        // Versions that knew no thoughts have trained on them.
        additions.extend(folder.has_thoughts()?.then(|| json!({ "thoughts": "cut" })));
    }
    let rope_factors = config.rope_factors;
    additions.extend(rope_factors.map(|factors| json!({ "rope_factors": factors })));
    additions.extend(start(config, stage).map(|start| json!({ "start": start })));
    let verdicts = Verdicts::from_feedback(&folder.feedback()?);
    let feedback = match stage {
        Stage::Sft | Stage::Calibrate => json!([]),
        Stage::Mine => json!(verdicts.liked()),
        Stage::Dpo => json!(verdicts.pairs()),
    };
    additions.extend((feedback != json!([])).then_some(feedback));
    Ok(additions)
}

/// The adapter of another user that `stage` starts from.
fn start(config: &TrainConfig, stage: Stage) -> Option<&StartAdapter> {
    config.start.as_ref().filter(|_| stage == Stage::Sft)
}

/// SHA-256 of a file; `None` if an optional file is missing.
fn hash(file: &Path, folder: &AdapterFolder, stage: Stage) -> Result<Option<String>> {
    if file.exists() {
        return Ok(Some(cope_convert::sha256(file)?));
    }
    let needed = match stage {
        Stage::Sft => None,
        Stage::Mine => (file == folder.sft()).then_some(Stage::Sft),
        Stage::Dpo | Stage::Calibrate if file == folder.sft() => Some(Stage::Sft),
        Stage::Dpo => (file == folder.pairs()).then_some(Stage::Mine),
        Stage::Calibrate => (file == folder.dpo()).then_some(Stage::Dpo),
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
        keep_dpo,
        ..
    } = config;
    let mut settings = match stage {
        Stage::Sft => json!({"lora": lora, "sft": sft}),
        Stage::Mine => json!({"mine": mine}),
        Stage::Dpo => json!({"dpo": dpo}),
        Stage::Calibrate => json!({
            "keep_dpo": keep_dpo,
            "scales": calibrate::SCALES,
            "contrasts": calibrate::CONTRASTS,
            "questions": everyday::digest(),
            "kept": calibrate::rule::KEPT,
        }),
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
        Stage::Dpo => folder.dpo(),
        Stage::Calibrate => folder.adapter(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{Home, UserName};
    use crate::train::WeightType;

    #[test]
    fn a_training_from_random_weights_has_the_hash_of_earlier_versions() {
        let data = tempfile::tempdir().unwrap();
        let home = Home::at(data.path());
        let folder = home.create_user(UserName::new("alice").unwrap()).unwrap();
        let base = BaseRef {
            file: "base.gguf".into(),
            sha256: "ba5e".into(),
            architecture: "llama".into(),
            task_sha256: None,
        };
        let hash = |start: Option<(&str, &str)>| {
            let start = start.map(|(user, sha256)| StartAdapter {
                user: user.into(),
                sha256: sha256.into(),
            });
            let config = TrainConfig {
                weight_type: WeightType::F32,
                start,
                ..TrainConfig::default()
            };
            let hold_out = HoldOut::Nothing(NoCalibration::TurnedOff);
            inputs(&folder, &base, &config, Stage::Sft, hold_out).unwrap()
        };
        let random = "0c0e195ecfc5595dd1937d9af03c1e72738de760b12ab32752f3cb98af6185b9";
        let hashes = [
            hash(None),
            hash(Some(("bob", "b0b"))),
            hash(Some(("bob", "b0b2"))),
            hash(Some(("carol", "b0b"))),
        ];
        assert_eq!(hashes[0], random);
        for (n, one) in hashes.iter().enumerate() {
            assert!(!hashes[..n].contains(one), "{hashes:?}");
        }
    }
}
