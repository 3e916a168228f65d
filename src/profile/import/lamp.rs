//! LaMP files: many users with their profiles and held-out items, all of one [`LampTask`]. [`LampTask`] says where the
//! format comes from.

use std::path::Path;

use serde::Deserialize;

use super::export_files::ExportFile;
use super::source::{malformed, utf8};
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

/// Reads a LaMP file.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read; [`Error::Input`] when it is malformed or its task is unknown.
pub fn read(path: &Path) -> Result<Lamp> {
    read_file(&ExportFile::on_disk(path)?)
}

pub(super) fn read_file(file: &ExportFile) -> Result<Lamp> {
    parse(file.path(), &file.content(MAX_FILE_BYTES)?)
}

/// The largest file that is read as a whole, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Lamp> {
    let mut deserializer = serde_json::Deserializer::from_str(utf8(path, bytes)?);
    let stored: StoredLamp = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| malformed(path, wrong_field(&error)))?;
    let task = LampTask::from_name(&stored.task).ok_or_else(|| {
        let known = LampTask::NAMES.join(", ");
        let task = &stored.task;
        malformed(
            path,
            format_args!("the task {task:?} is unknown; known are {known}"),
        )
    })?;
    let users = stored
        .users
        .into_iter()
        .map(|user| stored_user(path, task, user))
        .collect::<Result<_>>()?;
    Ok(Lamp { task, users })
}

/// A message about a LaMP file that cannot be read, with the field that is wrong.
fn wrong_field(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let (field, inner) = (error.path(), error.inner());
    let text = inner.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(what, _)| what);
    let what = what.trim_start_matches("invalid type: ");
    let (line, column) = (inner.line(), inner.column());
    format!("no LaMP file that can be read: {field}: {what} (line {line}, column {column})")
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
        let query = |query: StoredQuery| Query {
            id: query.id,
            example: Example {
                prompt: task.prompt(query.input),
                response: query.output,
            },
        };
        queries.into_iter().map(query).collect()
    };
    Ok(User {
        history,
        dev: queries(stored.dev),
        query: queries(stored.query),
        id,
    })
}

impl Lamp {
    /// The user with this id, or the only user when `id` is `None`.
    ///
    /// # Errors
    ///
    /// [`Unspecified::LampUser`] when there is no such user, or there are several and `id` is `None`.
    pub(super) fn into_user(mut self, path: &Path, id: Option<&str>) -> Result<User> {
        let position = match id {
            Some(id) => self.users.iter().position(|user| user.id == id),
            None => (self.users.len() == 1).then_some(0),
        };
        match position {
            Some(position) => Ok(self.users.swap_remove(position)),
            None => Err(self.unspecified_user(path, id)),
        }
    }

    fn unspecified_user(&self, path: &Path, id: Option<&str>) -> Error {
        let known: Vec<String> = self
            .users
            .iter()
            .take(3)
            .map(|user| user.id.clone())
            .collect();
        Unspecified::LampUser {
            path: path.to_owned(),
            asked: id.map(str::to_owned),
            count: self.users.len(),
            some: known,
        }
        .into()
    }
}
