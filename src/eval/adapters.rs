//! Adapters of tasks and users, trained unless they are there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::method::Weights;
use super::run::{Event, Observer};
use super::store::Store;
use super::study::{Study, StudyTask};
use crate::home::{UserFolder, UserName};
use crate::profile::{Example, Profile};
use crate::train::{Stage, TrainConfig, train};
use crate::{Error, Result};

/// Between two looks at a folder that another process is at work on.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Adapters<'a, 'o> {
    pub study: &'a Study,
    pub store: &'a Store,
    pub stop: &'a AtomicBool,
    pub observe: Observer<'o>,
}

impl Adapters<'_, '_> {
    /// The task's adapter, trained unless it is there.
    pub fn of_task(&mut self, task: &StudyTask) -> Result<PathBuf> {
        let name = UserName::new(&self.study.task_key(task)[..16])?;
        let folder = self.store.home().create_task(name)?;
        let config = &task.settings.task;
        self.train(
            &task.name,
            &folder,
            &task.others,
            None,
            config,
            &[Stage::Sft],
        )?;
        Ok(folder.sft())
    }

    /// The folder of a user's adapter on top of the task's, trained as far as `stages` unless it is.
    pub fn of_user(
        &mut self,
        task: &StudyTask,
        user: usize,
        of_task: &Path,
        stages: &[Stage],
    ) -> Result<UserFolder> {
        // What of DPO is changed is trained anew on the same SFT and, if it can be, on the same pairs.
        let key = self.study.adapter_key(task, user, Weights::Sft);
        let name = UserName::new(&key.as_str().unwrap_or_default()[..16])?;
        let folder = self.store.home().create_user(name)?;
        let of_task = Some(folder.add_task(of_task)?);
        let whose = format!("{}, {}", task.name, task.users[user].id);
        let items = task.training_items(user);
        let config = &task.settings.user;
        self.train(&whose, &folder, items, of_task, config, stages)?;
        Ok(folder)
    }

    fn train(
        &mut self,
        whose: &str,
        folder: &UserFolder,
        items: &[Example],
        task_sha256: Option<String>,
        config: &TrainConfig,
        stages: &[Stage],
    ) -> Result<()> {
        let profile = Profile {
            history: items.to_vec(),
            kept_apart: Vec::new(),
        };
        let mut base = self.study.base.clone();
        base.task_sha256 = task_sha256;
        let observe = &mut self.observe;
        let mut observe = |event| observe(Event::Training { whose, event });
        loop {
            // Another process may be at the same adapter.
            let trained = folder.lock().and_then(|lock| {
                folder.save_profile(&profile)?;
                drop(lock);
                let path = &self.study.base_path;
                train(folder, path, &base, config, stages, &mut observe)
            });
            match trained {
                Err(Error::Locked(_)) if !self.stop.load(Ordering::Relaxed) => {
                    std::thread::sleep(PATIENCE);
                }
                Err(Error::Locked(_)) => return Err(Error::Interrupted),
                trained => return trained,
            }
        }
    }
}
