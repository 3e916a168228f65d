//! LaMP files: many users with their profiles and held-out items, all of one [`LampTask`]. [`LampTask`] says where the
//! benchmarks come from. The files that they are published in are read too.

mod published;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde::Deserialize;

use super::export_files::ExportFile;
use super::json::{self, JsonKind};
use super::source::{malformed, utf8};
use super::{ImportOption, Imported};
use crate::error::Unspecified;
use crate::profile::text_value::required;
use crate::profile::{Example, LampItem, LampTask};
use crate::{Error, Result};

/// The content of a LaMP file, with every item as an [`Example`].
#[derive(Clone, Debug)]
pub struct Lamp {
    /// The task of all items.
    pub task: LampTask,
    /// The users, in the order of the file.
    pub users: Vec<User>,
}

/// One user of a LaMP file.
#[derive(Clone, Debug)]
pub struct User {
    /// The user's id in the file.
    pub id: String,
    /// The items of the user's profile, oldest first.
    pub history: Vec<Example>,
    /// Later, held-out items for choosing hyperparameters.
    pub dev: Vec<Query>,
    /// The latest, held-out items, on which results are reported.
    pub query: Vec<Query>,
    /// Items of the profile that lack a text.
    n_incomplete: usize,
    /// Hashes of the items of the history, for published files, which repeat profiles.
    known: HashSet<u64>,
}

/// A held-out item.
#[derive(Clone, Debug)]
pub struct Query {
    /// The item's id in the file.
    pub id: String,
    /// The prompt, and the text that the user wrote.
    pub example: Example,
}

#[derive(Deserialize)]
struct StoredLamp {
    task: String,
    users: Vec<StoredUser>,
}

#[derive(Deserialize)]
struct StoredUser {
    #[serde(deserialize_with = "required")]
    user_id: String,
    profile: Vec<LampItem>,
    #[serde(default)]
    dev: Vec<StoredQuery>,
    #[serde(default)]
    query: Vec<StoredQuery>,
}

#[derive(Deserialize)]
struct StoredQuery {
    #[serde(deserialize_with = "required")]
    id: String,
    #[serde(deserialize_with = "required")]
    input: String,
    #[serde(deserialize_with = "required")]
    output: String,
}

/// Reads a LaMP file, in this program's form or as published.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read; [`Error::Input`] when it is malformed or its task is unknown.
pub fn read(path: &Path) -> Result<Lamp> {
    let file = ExportFile::on_disk(path)?;
    match json::kind(&file)? {
        JsonKind::Questions => Ok(published::read(&file, |_| true)?.0),
        JsonKind::Golds => Err(published::refuse_golds(&file)),
        _ => parse(path, &file.content(MAX_FILE_BYTES)?),
    }
}

/// Whether a file is one of LaMP.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read.
pub fn is_lamp(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let kind = json::kind(&ExportFile::on_disk(path)?)?;
    Ok(matches!(
        kind,
        JsonKind::Users | JsonKind::Questions | JsonKind::Golds
    ))
}

/// The examples of a user, or of the only user where `id` is `None`: the profile, and in published files the questions with
/// their golds.
///
/// # Errors
///
/// Those of [`read`], and [`Unspecified::LampUser`] when there is no such user, or there are several and `id` is `None`.
pub(super) fn import(file: &ExportFile, is_published: bool, id: Option<&str>) -> Result<Imported> {
    let path = file.path();
    let mut first = None;
    let mut keep = |user: &str| id.unwrap_or(first.get_or_insert_with(|| user.to_owned())) == user;
    let (lamp, ids) = if is_published {
        published::read(file, keep)?
    } else {
        let mut lamp = parse(path, &file.content(MAX_FILE_BYTES)?)?;
        let ids = lamp.users.iter().map(|user| user.id.clone()).collect();
        lamp.users.retain(|user| keep(&user.id));
        (lamp, ids)
    };
    let user = lamp.users.into_iter().next();
    let Some(user) = user.filter(|_| id.is_some() || ids.len() == 1) else {
        return Err(unspecified_user(path, &ids, id));
    };
    let golds = if is_published { user.query } else { Vec::new() };
    let golds = golds.into_iter().map(|query| query.example);
    let mut imported = Imported::complete(user.history.into_iter().chain(golds).collect());
    for _ in 0..user.n_incomplete {
        imported.skip("an item of a profile that lacks a text");
    }
    Ok(imported.with(ImportOption::LampUser))
}

pub(super) use published::refuse_golds;

/// The largest file that is read as a whole, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Lamp> {
    let mut deserializer = serde_json::Deserializer::from_str(utf8(path, bytes)?);
    let stored: StoredLamp = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| malformed(path, wrong_field("no LaMP file that can be read", &error)))?;
    let task = task(path, &stored.task)?;
    let users = stored
        .users
        .into_iter()
        .map(|user| stored_user(path, task, user))
        .collect::<Result<_>>()?;
    Ok(Lamp { task, users })
}

/// The task with this name.
fn task(path: &Path, name: &str) -> Result<LampTask> {
    LampTask::from_name(name).ok_or_else(|| {
        let known = LampTask::NAMES.join(", ");
        malformed(
            path,
            format_args!("the task {name:?} is unknown; known are {known}"),
        )
    })
}

fn hash(example: &Example) -> u64 {
    let mut hasher = DefaultHasher::new();
    example.hash(&mut hasher);
    hasher.finish()
}

/// A message about a LaMP file that cannot be read, with the field that is wrong.
fn wrong_field(what: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let (field, inner) = (error.path(), error.inner());
    let text = inner.to_string();
    let why = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(why, _)| why);
    let why = why.trim_start_matches("invalid type: ");
    let (line, column) = (inner.line(), inner.column());
    format!("{what}: {field}: {why} (line {line}, column {column})")
}

fn stored_user(path: &Path, task: LampTask, stored: StoredUser) -> Result<User> {
    let id = stored.user_id;
    let history = (1..)
        .zip(&stored.profile)
        .map(|(number, item)| {
            task.example(item)
                .and_then(Example::checked)
                .map_err(|what| {
                    malformed(
                        path,
                        format_args!("user {id:?}, item {number} of the profile: {what}"),
                    )
                })
        })
        .collect::<Result<_>>()?;
    let queries = |queries: Vec<StoredQuery>| -> Vec<Query> {
        let queries = queries.into_iter();
        queries.map(|query| Query::of(task, query)).collect()
    };
    Ok(User {
        history,
        dev: queries(stored.dev),
        query: queries(stored.query),
        ..User::new(id)
    })
}

impl User {
    fn new(id: String) -> Self {
        Self {
            id,
            history: Vec::new(),
            dev: Vec::new(),
            query: Vec::new(),
            n_incomplete: 0,
            known: HashSet::new(),
        }
    }
}

impl Query {
    fn of(task: LampTask, stored: StoredQuery) -> Self {
        Self {
            id: stored.id,
            example: Example {
                prompt: task.prompt(stored.input),
                response: stored.output,
            },
        }
    }
}

fn unspecified_user(path: &Path, ids: &[String], asked: Option<&str>) -> Error {
    Unspecified::LampUser {
        path: path.to_owned(),
        asked: asked.map(str::to_owned),
        ids: ids.to_vec(),
    }
    .into()
}
