//! Adapters of tasks and users, trained unless they are there.

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

/// Between two looks at a folder that another process is at work on.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct StudyAdapters<'a, 'o> {
    pub study: &'a Study,
    pub store: &'a Store,
    pub stop: &'a AtomicBool,
    pub observe: StudyObserver<'o>,
}

/// The adapters of a task and of a user as one.
pub(super) struct Stacked {
    /// Gone when it is dropped.
    pub file: NamedTempFile,
    /// What training has taken of the user's.
    pub seconds: f64,
}

impl StudyAdapters<'_, '_> {
    /// The task's adapter, trained unless it is there.
    pub fn of_task(&mut self, task: &StudyTask) -> Result<PathBuf> {
        let name = UserName::new(&self.study.task_key(task)[..16])?;
        let folder = self.store.home().create_task(name)?;
        let config = &task.settings.task;
        self.train(
            &task.name,
            &folder,
            &task.items_of_others(),
            None,
            config,
            &[Stage::Sft],
        )?;
        Ok(folder.sft())
    }

    /// The adapter of a task and a user's on top of it as one, for llama.cpp. The user's is trained as far as `stages`
    /// unless it is.
    pub fn stacked(
        &mut self,
        task: &StudyTask,
        user: usize,
        of_task: &Path,
        stages: &[Stage],
    ) -> Result<Stacked> {
        // What of DPO is changed is trained anew on the same SFT and, if it can be, on the same pairs.
        let key = self.study.adapter_key(task, user, MethodWeights::Sft);
        let name = UserName::new(&key.unwrap_or_default()[..16])?;
        let folder = self.store.home().create_user(name)?;
        let of_task_sha256 = Some(folder.add_task(of_task)?);
        let whose = task.whose(user);
        let items = task.items_of(user);
        let config = &task.settings.user;
        // Until it is read nobody else may train it.
        let _lock = self.train(&whose, &folder, items, of_task_sha256, config, stages)?;
        let of_user = if stages.contains(&Stage::Dpo) {
            folder.adapter()
        } else {
            folder.sft()
        };
        let file = NamedTempFile::new_in(folder.path())
            .map_err(Error::io("create a file in", folder.path()))?;
        stack(of_task, &of_user, file.path())?;
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
        let (stop, observe) = (self.stop, &mut self.observe);
        let mut observe = |event| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            observe(StudyEvent::Training { whose, event })
        };
        let training = Training {
            folder,
            base_path: &self.study.base_path,
            base: &base,
            config,
            stages,
        };
        let trained = train_locked(&lock, training, &mut observe);
        // The folder's own name says nothing to a person.
        trained.map_err(|error| match error.fault() {
            Fault::Input | Fault::Missing => Error::input(format!("{whose}: {error}")),
            _ => match error {
                Error::Train(what) => Error::Train(format!("{whose}: {what}")),
                error => error,
            },
        })?;
        Ok(lock)
    }

    /// Waits while another process is at work on a folder.
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

/// What a folder's manifest says of the time that `stages` took.
fn seconds(folder: &AdapterFolder, stages: &[Stage]) -> Result<f64> {
    let manifest = folder.manifest()?;
    let seconds_of = |stage: &Stage| {
        let record = manifest.as_ref()?.stages.get(stage)?;
        Some(record.seconds)
    };
    Ok(stages.iter().filter_map(seconds_of).sum())
}
