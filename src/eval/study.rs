//! The study that is evaluated: its tasks, the users whose texts the methods imitate, and the other users, on whose
//! items task adapters are trained.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::task_settings::TaskSettings;
use crate::digest::digest;
use crate::home::BaseRef;
use crate::profile::LampTask;
use crate::profile::lamp::{self, Query};
use crate::profile::{Example, newest};
use crate::{Error, Result};

/// A base, and the tasks on which methods are compared with it.
#[derive(Debug)]
pub struct Study {
    /// The base.
    pub base: BaseRef,
    /// Its file.
    pub base_path: PathBuf,
    /// The held-out items that are answered.
    pub split: Split,
    /// The limits on users, queries and items.
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
    /// The kind of text that is written.
    pub task: LampTask,
    /// The settings that were chosen for it.
    pub settings: TaskSettings,
    /// The most items of a user, from [`StudyLimits::items`]; the settings may ask for fewer.
    pub(super) most_items: Option<usize>,
    /// The histories of users who are never evaluated, each oldest first.
    pub others: Vec<Vec<Example>>,
    /// The hash of `others`.
    pub(super) others_digest: String,
    /// The users who are evaluated.
    pub users: Vec<Subject>,
}

/// A user who is evaluated.
#[derive(Debug)]
pub struct Subject {
    /// The user's id in the file.
    pub id: String,
    /// The user's texts, oldest first.
    pub history: Vec<Example>,
    /// The hash of `history`.
    pub(super) history_digest: String,
    /// The queries to answer.
    pub queries: Vec<Query>,
    /// The hash of `queries`.
    pub(super) queries_digest: String,
}

/// A part of the held-out items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The items on which settings are chosen.
    Dev,
    /// The items that are reported.
    Query,
}

/// Limits on the size of a study; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyLimits {
    /// The number of users of a task, the first of the file.
    pub users: Option<usize>,
    /// The number of queries of a user, the first of the file.
    pub queries: Option<usize>,
    /// The number of items that a user's adapter is trained on, the newest; the settings may ask for fewer.
    pub items: Option<usize>,
    /// The number of other users, the first of the file, on whose items the task adapter is trained.
    pub others: Option<usize>,
}

/// An entry of `splits.json`: the users of a file who are evaluated, and those who are not.
#[derive(Deserialize)]
struct UsersOfTask {
    targets: Vec<String>,
    others: Vec<String>,
}

/// The data of a study: its folder, and the part of it that is used.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A folder with LaMP files and a `splits.json`, which names for each file the users who are evaluated (`targets`)
    /// and those who are not (`others`).
    pub folder: &'a Path,
    /// The names of the tasks: those of their files, without the extension.
    pub names: &'a [String],
    /// The held-out items that are answered.
    pub split: Split,
    /// The limits on users, queries and items.
    pub limits: StudyLimits,
}

impl Study {
    /// Reads the tasks of a study. `settings` are changes to the default [`TaskSettings`], by task.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when `splits.json` cannot be read; [`Error::Input`] when a file is malformed, or names a user whom
    /// the data do not have.
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
            let users = splits.get(name).ok_or_else(|| {
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
            read_task(source, name, users, settings)
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

/// Reads a task. `split_users` are its users as `splits.json` names them.
fn read_task(
    source: Source,
    name: &str,
    split_users: &UsersOfTask,
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
                let message = format!(
                    "{}: the user {id:?} is missing, or splits.json names it twice",
                    path.display()
                );
                Error::input(message)
            })
        };
        ids.iter().map(take).collect()
    };
    let subject = |user| Subject::of_split(user, split, limits.queries);
    let targets = take(&split_users.targets)?.into_iter().map(subject);
    let asked = targets.filter(|user| !user.queries.is_empty());
    let users: Vec<_> = asked.take(limits.users.unwrap_or(usize::MAX)).collect();
    check(&path, &users)?;
    let others = take(&split_users.others)?
        .into_iter()
        .map(|user| user.history);
    let others: Vec<_> = others.take(limits.others.unwrap_or(usize::MAX)).collect();
    if others.iter().all(Vec::is_empty) {
        return Err(Error::input(format!(
            "{}: the other users have no items to train the task adapter on",
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

impl Subject {
    /// A user of a LaMP file with at most `limit` queries of a split.
    fn of_split(user: lamp::User, split: Split, limit: Option<usize>) -> Self {
        let mut queries = match split {
            Split::Dev => user.dev,
            Split::Query => user.query,
        };
        queries.truncate(limit.unwrap_or(usize::MAX));
        let query_values = queries.iter().map(|it| json!([it.id, it.example]));
        Self {
            id: user.id,
            history_digest: digest(&json!(user.history)),
            history: user.history,
            queries_digest: digest(&query_values.collect()),
            queries,
        }
    }
}

/// Makes sure that there are users, and that each has a history, and queries with different ids.
fn check(path: &Path, users: &[Subject]) -> Result<()> {
    let wrong = |what: String| Err(Error::Input(format!("{}: {what}", path.display())));
    if users.is_empty() {
        return wrong("none of its targets has queries of this split".into());
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
    /// The user whose adapter answers for `user` in the control [`Method::OtherUser`](super::Method::OtherUser): the
    /// next one.
    #[must_use]
    pub fn other_user(&self, user: usize) -> usize {
        (user + 1) % self.users.len()
    }

    /// The task's name and the user's id, for messages.
    pub(super) fn label(&self, user: usize) -> String {
        format!("{}, {}", self.name, self.users[user].id)
    }

    /// The items on which the task adapter is trained.
    #[must_use]
    pub fn training_items_of_others(&self) -> Vec<Example> {
        let histories = self.others.iter();
        let newest = histories.map(|history| newest(history, self.settings.items_of_others));
        newest.collect::<Vec<_>>().concat()
    }

    /// The items on which a user's adapter is trained.
    #[must_use]
    pub fn training_items(&self, user: usize) -> &[Example] {
        newest(&self.users[user].history, self.n_items())
    }

    /// The most items on which a user's adapter is trained.
    pub(super) fn n_items(&self) -> usize {
        self.settings
            .items
            .min(self.most_items.unwrap_or(usize::MAX))
    }
}
