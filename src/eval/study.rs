//! What is evaluated: tasks, the users whose texts the methods are to write, and the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::settings::Settings;
use crate::home::BaseRef;
use crate::profile::Example;
use crate::profile::lamp::{self, Query};
use crate::task::Task;
use crate::{Error, Result};

/// A base and the tasks that methods are compared on with it.
#[derive(Debug)]
pub struct Study {
    /// The base.
    pub base: BaseRef,
    /// Its file.
    pub base_path: PathBuf,
    /// The tasks.
    pub tasks: Vec<StudyTask>,
}

/// A task with its users.
#[derive(Debug)]
pub struct StudyTask {
    /// The name of its file, without the extension.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// What is written.
    pub task: Task,
    /// What was chosen for it.
    pub settings: Settings,
    /// Items of users who are never evaluated.
    pub others: Vec<Example>,
    /// The users who are.
    pub users: Vec<Subject>,
}

/// A user who is evaluated.
#[derive(Debug)]
pub struct Subject {
    /// The name in the file.
    pub id: String,
    /// What the user wrote, oldest first.
    pub history: Vec<Example>,
    /// What is to be answered.
    pub queries: Vec<Query>,
}

/// Which of the held-out items are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Those for choosing settings.
    Dev,
    /// Those for the report.
    Query,
}

/// At most so many of the first users, and of each user's first queries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Users of a task.
    pub users: Option<usize>,
    /// Queries of a user.
    pub queries: Option<usize>,
}

/// `splits.json`: of each file, who is evaluated and who is not.
#[derive(Deserialize)]
struct UsersOfTask {
    targets: Vec<String>,
    others: Vec<String>,
}

/// Reads the tasks `names` from a folder of LaMP files and a `splits.json`, which names the users of each that are
/// evaluated (`targets`) and those that are not (`others`). `settings` are changes of [`Settings`], by task.
///
/// # Errors
///
/// [`Error::Input`] when a file is missing or malformed, or names a user who is not there.
pub fn read_tasks(
    folder: &Path,
    names: &[String],
    split: Split,
    limits: Limits,
    settings: &BTreeMap<String, Value>,
) -> Result<Vec<StudyTask>> {
    let path = folder.join("splits.json");
    let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let splits: BTreeMap<String, UsersOfTask> = serde_json::from_slice(&text)
        .map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
    let read = |name: &String| {
        let known = || splits.keys().cloned().collect::<Vec<_>>().join(", ");
        let of_task = splits.get(name).ok_or_else(|| {
            Error::input(format!(
                "{} has no task {name:?}; it has {}",
                path.display(),
                known()
            ))
        })?;
        let default = Settings::default();
        let settings = settings
            .get(name)
            .map_or(Ok(default.clone()), |it| default.with(it))?;
        read_task(folder, name, of_task, split, limits, settings)
    };
    names.iter().map(read).collect()
}

fn read_task(
    folder: &Path,
    name: &str,
    of_task: &UsersOfTask,
    split: Split,
    limits: Limits,
    settings: Settings,
) -> Result<StudyTask> {
    let path = folder.join(format!("{name}.json"));
    let lamp::Lamp { task, users } = lamp::read(&path)?;
    let mut users: BTreeMap<String, lamp::User> = users
        .into_iter()
        .map(|user| (user.id.clone(), user))
        .collect();
    let mut take = |ids: &[String]| -> Result<Vec<lamp::User>> {
        let take = |id| {
            users.remove(id).ok_or_else(|| {
                let message = format!("{}: there is no user {id:?}, or twice", path.display());
                Error::input(message)
            })
        };
        ids.iter().map(take).collect()
    };
    let subject = |user: lamp::User| {
        let mut queries = match split {
            Split::Dev => user.dev,
            Split::Query => user.query,
        };
        queries.truncate(limits.queries.unwrap_or(usize::MAX));
        Subject {
            id: user.id,
            history: user.history,
            queries,
        }
    };
    let n_users = limits.users.unwrap_or(usize::MAX);
    let targets = take(&of_task.targets)?.into_iter().take(n_users);
    let newest = |user: lamp::User| {
        let first = user.history.len().saturating_sub(settings.items_of_others);
        user.history.into_iter().skip(first)
    };
    Ok(StudyTask {
        name: name.to_owned(),
        sha256: cope_convert::sha256(&path)?,
        task,
        others: take(&of_task.others)?
            .into_iter()
            .flat_map(newest)
            .collect(),
        users: targets
            .map(subject)
            .filter(|user| !user.queries.is_empty())
            .collect(),
        settings,
    })
}

impl StudyTask {
    /// The user whose adapter is the control of another's: the next.
    #[must_use]
    pub fn other_user(&self, user: usize) -> usize {
        (user + 1) % self.users.len()
    }

    /// What a user's adapter is trained on.
    #[must_use]
    pub fn training_items(&self, user: usize) -> &[Example] {
        let history = &self.users[user].history;
        &history[history.len().saturating_sub(self.settings.items)..]
    }
}
