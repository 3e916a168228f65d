//! The adapters of tasks and users, trained where they are missing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::method::MethodWeights;
use super::progress::{StudyEvent, StudyObserver};
use super::store::Store;
use super::study::{Study, StudyTask};
use crate::home::{AdapterFolder, Lock, Stage, UserName};
use crate::profile::{Example, Profile};
use crate::train::{TrainConfig, Training, train_locked};
use crate::voice::stack;
use crate::{Error, Fault, Result};

/// The time between two looks at a folder that another process has locked.
const PATIENCE: Duration = Duration::from_secs(1);

/// Finds or trains the adapters of a study.
pub(super) struct StudyAdapters<'a, 'o> {
    pub study: &'a Study,
    pub store: &'a Store,
    pub stop: &'a AtomicBool,
    pub observe: StudyObserver<'o>,
}

/// The stacked adapter of a task and a user.
pub(super) struct Stacked {
    /// The adapter's file, which is removed when this is dropped.
    pub file: NamedTempFile,
    /// The seconds that training the user's adapter took.
    pub seconds: f64,
}

impl StudyAdapters<'_, '_> {
    /// The file of the task adapter, which is trained if it is missing.
    pub fn task_adapter(&mut self, task: &StudyTask) -> Result<PathBuf> {
        let name = UserName::new(&self.study.task_key(task)[..16])?;
        let folder = self.store.home().create_task(name)?;
        let config = &task.settings.task;
        self.train(
            &task.name,
            &folder,
            &task.training_items_of_others(),
            None,
            config,
            &[Stage::Sft],
        )?;
        Ok(folder.sft())
    }

    /// Stacks the task adapter in the file `task_adapter` and a user's adapter on top of it into one adapter for
    /// llama.cpp. The user's adapter is trained by those of `stages` that it lacks.
    pub fn stacked(
        &mut self,
        task: &StudyTask,
        user: usize,
        task_adapter: &Path,
        stages: &[Stage],
    ) -> Result<Stacked> {
        // The folder is named after what SFT depends on. With other settings of mining or DPO, these stages run anew on
        // the same SFT adapter and, where possible, on the same pairs.
        let key = self.study.adapter_key(task, user, MethodWeights::Sft);
        let name = UserName::new(&key.unwrap_or_default()[..16])?;
        let folder = self.store.home().create_user(name)?;
        let task_sha256 = Some(folder.add_task(task_adapter)?);
        let whose = task.label(user);
        let items = task.training_items(user);
        let config = &task.settings.user;
        // The lock is held until the adapter is read, so that no other process trains it meanwhile.
        let _lock = self.train(&whose, &folder, items, task_sha256, config, stages)?;
        let user_adapter = if stages.contains(&Stage::Dpo) {
            folder.dpo()
        } else {
            folder.sft()
        };
        let file = NamedTempFile::new_in(folder.path())
            .map_err(Error::io("create a file in", folder.path()))?;
        stack(task_adapter, &user_adapter)?.write_gguf(file.path())?;
        let seconds = seconds(&folder, stages)?;
        Ok(Stacked { file, seconds })
    }

    fn train(
        &mut self,
        whose: &str,
        folder: &AdapterFolder,
        items: &[Example],
        task_sha256: Option<String>,
        config: &TrainConfig,
        stages: &[Stage],
    ) -> Result<Lock> {
        let lock = self.locked(folder)?;
        folder.save_profile(&Profile {
            history: items.to_vec(),
            held_out: Vec::new(),
        })?;
        let mut base = self.study.base.clone();
        base.task_sha256 = task_sha256;
        // An evaluation has settings of its own for scale and contrast, and trains on all items.
        let mut config = config.clone();
        config.hold_out = Some(0);
        config.replay = Some(0.0);
        let (stop, observe) = (self.stop, &mut self.observe);
        let mut observe = |event| {
            observe(StudyEvent::Training { whose, event })?;
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            Ok(())
        };
        let training = Training {
            folder,
            base_path: &self.study.base_path,
            base: &base,
            config: &config,
            stages,
            stop: None,
        };
        let trained = train_locked(&lock, training, &mut observe);
        // The folder is named by a hash, which says nothing to a person, so the error names the task and the user.
        trained.map_err(|error| match error.fault() {
            Fault::Input | Fault::Missing => Error::input(format!("{whose}: {error}")),
            _ => match error {
                Error::Train(what) => Error::Train(format!("{whose}: {what}")),
                error => error,
            },
        })?;
        Ok(lock)
    }

    /// Locks a folder, once no other process has it locked.
    fn locked(&self, folder: &AdapterFolder) -> Result<Lock> {
        loop {
            match folder.lock() {
                Err(Error::Locked(_)) if self.stop.load(Ordering::Relaxed) => {
                    return Err(Error::Interrupted);
                }
                Err(Error::Locked(_)) => std::thread::sleep(PATIENCE),
                locked => return locked,
            }
        }
    }
}

/// The seconds that `stages` took, as the folder's manifest records them.
fn seconds(folder: &AdapterFolder, stages: &[Stage]) -> Result<f64> {
    let manifest = folder.manifest()?;
    let seconds_of = |stage: &Stage| {
        let record = manifest.as_ref()?.stages.get(stage)?;
        Some(record.seconds)
    };
    Ok(stages.iter().filter_map(seconds_of).sum())
}
