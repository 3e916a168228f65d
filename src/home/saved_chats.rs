//! Chats that a person has saved to go on with later.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{UserName, create_folder, entries, read_json_if_there, write_json};
use crate::Result;
use crate::error::Missing;

/// A folder with one JSON file for each saved chat. The program that chats decides what a file holds.
#[derive(Clone, Debug)]
pub struct SavedChats {
    folder: PathBuf,
}

impl SavedChats {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder, which exists once a chat was saved.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names of the saved chats, sorted.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) when the folder cannot be read.
    pub fn names(&self) -> Result<Vec<UserName>> {
        let mut paths = entries(&self.folder)?;
        paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
        let names = paths
            .iter()
            .filter_map(|path| UserName::new(path.file_stem()?.to_str()?).ok());
        Ok(names.collect())
    }

    /// Whether there is a chat of this name.
    #[must_use]
    pub fn has(&self, name: &UserName) -> bool {
        self.file(name).exists()
    }

    /// Saves a chat, in place of an earlier one of the same name.
    ///
    /// # Errors
    ///
    /// The file cannot be written; an earlier one is then unchanged.
    pub fn save(&self, name: &UserName, chat: &impl Serialize) -> Result<()> {
        create_folder(&self.folder)?;
        write_json(&self.file(name), chat)
    }

    /// The saved chat of this name.
    ///
    /// # Errors
    ///
    /// [`Missing::Chat`] when there is none; [`Error::Damaged`](crate::Error::Damaged) when its file is no JSON value of
    /// this type.
    pub fn load<T: DeserializeOwned>(&self, name: &UserName) -> Result<T> {
        if let Some(chat) = read_json_if_there(&self.file(name))? {
            return Ok(chat);
        }
        Err(Missing::Chat {
            name: name.to_string(),
            known: self.names()?.iter().map(ToString::to_string).collect(),
        }
        .into())
    }

    fn file(&self, name: &UserName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}
