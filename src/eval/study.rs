//! What is evaluated: tasks, the users whose texts the methods are to write, and the others.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settings::TaskSettings;
use crate::hash::digest;
use crate::home::BaseRef;
use crate::profile::LampTask;
use crate::profile::lamp::{self, Query};
use crate::profile::{Example, newest};
use crate::{Error, Result};

/// A base and the tasks that methods are compared on with it.
#[derive(Debug)]
pub struct Study {
    /// The base.
    pub base: BaseRef,
    /// Its file.
    pub base_path: PathBuf,
    /// Which held-out items are answered.
    pub split: Split,
    /// How many of them.
    pub limits: StudyLimits,
    /// SHA-256 of `splits.json`.
    pub splits_sha256: String,
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
    pub task: LampTask,
    /// What was chosen for it.
    pub settings: TaskSettings,
    /// The limit of a user's items; the settings may say fewer.
    pub(super) most_items: Option<usize>,
    /// The histories of users who are never evaluated, each oldest first.
    pub others: Vec<Vec<Example>>,
    /// The hash of them.
    pub(super) others_digest: String,
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
    /// The hash of it.
    pub(super) history_digest: String,
    /// What is to be answered.
    pub queries: Vec<Query>,
    /// The hash of it.
    pub(super) queries_digest: String,
}

/// Which of the held-out items are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Those for choosing settings.
    Dev,
    /// Those for the report.
    Query,
}

/// At most so much of a study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyLimits {
    /// The first users of a task.
    pub users: Option<usize>,
    /// The first queries of a user.
    pub queries: Option<usize>,
    /// The newest items that a user's adapter is trained on, if the settings do not say fewer.
    pub items: Option<usize>,
    /// The first of the others, whose items the task's adapter is trained on.
    pub others: Option<usize>,
}

/// `splits.json`: of each file, who is evaluated and who is not.
#[derive(Deserialize)]
struct UsersOfTask {
    targets: Vec<String>,
    others: Vec<String>,
}

/// Where a study's data are, and which of them it takes.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A folder of LaMP files and a `splits.json`, which names the users of each that are evaluated (`targets`) and those
    /// that are not (`others`).
    pub folder: &'a Path,
    /// The tasks, as their files are named, without the extension.
    pub names: &'a [String],
    /// Which held-out items.
    pub split: Split,
    /// How many of them.
    pub limits: StudyLimits,
}

impl Study {
    /// Reads the tasks of a study with a base. `settings` are changes of [`TaskSettings`], by task.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when a file is missing or malformed, or names a user who is not there.
    pub fn read(
        base: BaseRef,
        base_path: PathBuf,
        source: Source,
        settings: &BTreeMap<String, Value>,
    ) -> Result<Self> {
        let path = source.folder.join("splits.json");
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let splits: BTreeMap<String, UsersOfTask> = serde_json::from_slice(&text)
            .map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
        if let Some(name) = settings.keys().find(|name| !splits.contains_key(*name)) {
            return Err(Error::input(format!(
                "the settings are for a task {name:?}, which {} does not have",
                path.display()
            )));
        }
        let mut seen = HashSet::new();
        if let Some(name) = source.names.iter().find(|name| !seen.insert(*name)) {
            return Err(Error::input(format!("the task {name:?} is named twice")));
        }
        let read = |name: &String| {
            let known = || splits.keys().cloned().collect::<Vec<_>>().join(", ");
            let of_task = splits.get(name).ok_or_else(|| {
                Error::input(format!(
                    "{} has no task {name:?}; it has {}",
                    path.display(),
                    known()
                ))
            })?;
            let default = TaskSettings::default();
            let settings = settings
                .get(name)
                .map_or(Ok(default.clone()), |it| default.with(it))?;
            read_task(source, name, of_task, settings)
        };
        Ok(Self {
            tasks: source.names.iter().map(read).collect::<Result<_>>()?,
            base,
            base_path,
            split: source.split,
            limits: source.limits,
            splits_sha256: cope_convert::sha256(&path)?,
        })
    }
}

fn read_task(
    source: Source,
    name: &str,
    of_task: &UsersOfTask,
    settings: TaskSettings,
) -> Result<StudyTask> {
    let Source { split, limits, .. } = source;
    let path = source.folder.join(format!("{name}.json"));
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
        let of_queries = queries.iter().map(|it| json!([it.id, it.example]));
        Subject {
            id: user.id,
            history_digest: digest(&json!(user.history)),
            history: user.history,
            queries_digest: digest(&of_queries.collect()),
            queries,
        }
    };
    let targets = take(&of_task.targets)?.into_iter().map(subject);
    let asked = targets.filter(|user| !user.queries.is_empty());
    let users: Vec<_> = asked.take(limits.users.unwrap_or(usize::MAX)).collect();
    check(&path, &users)?;
    let others = take(&of_task.others)?.into_iter().map(|user| user.history);
    let others: Vec<_> = others.take(limits.others.unwrap_or(usize::MAX)).collect();
    if others.iter().all(Vec::is_empty) {
        return Err(Error::input(format!(
            "{}: its others have no items to train the task's adapter on",
            path.display()
        )));
    }
    Ok(StudyTask {
        name: name.to_owned(),
        sha256: cope_convert::sha256(&path)?,
        task,
        others_digest: digest(&json!(others)),
        others,
        users,
        settings,
        most_items: limits.items,
    })
}

/// That there are users, each with a history and queries of different names.
fn check(path: &Path, users: &[Subject]) -> Result<()> {
    let wrong = |what: String| Err(Error::Input(format!("{}: {what}", path.display())));
    if users.is_empty() {
        return wrong("none of its targets has such queries".into());
    }
    for user in users {
        let mut ids = HashSet::new();
        if user.history.is_empty() {
            return wrong(format!("user {:?} has no profile to train on", user.id));
        }
        if let Some(query) = user.queries.iter().find(|query| !ids.insert(&query.id)) {
            return wrong(format!("user {:?} has two queries {:?}", user.id, query.id));
        }
    }
    Ok(())
}

impl StudyTask {
    /// The user whose adapter is the control of another's: the next.
    #[must_use]
    pub fn other_user(&self, user: usize) -> usize {
        (user + 1) % self.users.len()
    }

    /// A task and a user, for a person to read.
    pub(super) fn whose(&self, user: usize) -> String {
        format!("{}, {}", self.name, self.users[user].id)
    }

    /// What the task's adapter is trained on.
    #[must_use]
    pub fn items_of_others(&self) -> Vec<Example> {
        let histories = self.others.iter();
        let newest = histories.map(|history| newest(history, self.settings.items_of_others));
        newest.collect::<Vec<_>>().concat()
    }

    /// What a user's adapter is trained on.
    #[must_use]
    pub fn items_of(&self, user: usize) -> &[Example] {
        newest(&self.users[user].history, self.n_items())
    }

    /// How many of a user's items at most.
    pub(super) fn n_items(&self) -> usize {
        self.settings
            .items
            .min(self.most_items.unwrap_or(usize::MAX))
    }
}
