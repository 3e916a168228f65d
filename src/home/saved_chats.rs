//! Chats that a person goes on with later, at the terminal or on the page.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{UserName, create_folder, entries, read_json_if_there, remove_if_there, write_json};
use crate::error::Missing;
use crate::message::Message;
use crate::{Error, Result};

/// A folder with one JSON file for each saved chat.
#[derive(Clone, Debug)]
pub struct SavedChats {
    folder: PathBuf,
}

/// A saved chat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedChat {
    /// The title on the page; a chat that was saved at the terminal has its name alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The settings of the chat by their names at the terminal, such as `temperature`; `system` is the system prompt. A
    /// setting that is not here stays as it is when the chat is loaded.
    #[serde(default)]
    pub settings: Option<Map<String, Value>>,
    /// The messages without the system prompt.
    pub messages: Vec<Message>,
    /// The number of answers so far to the last message.
    #[serde(default)]
    pub n_answers: u32,
}

/// A saved chat in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedChat {
    /// The name that it was saved under.
    pub name: UserName,
    /// Its title, else its name.
    pub title: String,
    /// When it was saved the last time.
    pub changed: SystemTime,
}

impl ListedChat {
    /// When it was saved the last time, in seconds since 1970.
    #[must_use]
    pub fn changed_seconds(&self) -> u64 {
        let since = self.changed.duration_since(UNIX_EPOCH);
        since.map_or(0, |it| it.as_secs())
    }
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
    /// [`Error::Io`] when the folder cannot be read.
    pub fn names(&self) -> Result<Vec<UserName>> {
        let mut paths = entries(&self.folder)?;
        paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
        let names = paths
            .iter()
            .filter_map(|path| UserName::new(path.file_stem()?.to_str()?).ok());
        Ok(names.collect())
    }

    /// The saved chats, the one that was saved last first. A file that cannot be read as a chat has its name for a title.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<ListedChat>> {
        let listed = |name: UserName| {
            let path = self.file(&name);
            // A chat that was removed meanwhile is not listed.
            let changed = fs::metadata(&path).and_then(|it| it.modified()).ok()?;
            let title = self.load(&name).ok().and_then(|chat| chat.title);
            Some(ListedChat {
                title: title.unwrap_or_else(|| name.to_string()),
                name,
                changed,
            })
        };
        let mut chats: Vec<_> = self.names()?.into_iter().filter_map(listed).collect();
        chats.sort_by_key(|chat| Reverse(chat.changed));
        Ok(chats)
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
    pub fn save(&self, name: &UserName, chat: &SavedChat) -> Result<()> {
        create_folder(&self.folder)?;
        write_json(&self.file(name), chat)
    }

    /// The saved chat of this name.
    ///
    /// # Errors
    ///
    /// [`Missing::Chat`] when there is none; [`Error::Damaged`] when its file is no chat.
    pub fn load(&self, name: &UserName) -> Result<SavedChat> {
        let chat = read_json_if_there(&self.file(name))?;
        chat.ok_or_else(|| self.missing(name))
    }

    /// Removes the saved chat of this name.
    ///
    /// # Errors
    ///
    /// [`Missing::Chat`] when there is none; [`Error::Io`] when its file cannot be removed.
    pub fn remove(&self, name: &UserName) -> Result<()> {
        if !self.has(name) {
            return Err(self.missing(name));
        }
        remove_if_there(&self.file(name))
    }

    fn missing(&self, name: &UserName) -> Error {
        let known = self.names().unwrap_or_default();
        Missing::Chat {
            name: name.to_string(),
            known: known.iter().map(ToString::to_string).collect(),
        }
        .into()
    }

    fn file(&self, name: &UserName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn chats_are_listed_by_their_titles_the_last_saved_first() {
        let folder = tempfile::tempdir().unwrap();
        let chats = SavedChats::at(folder.path().join("chats"));
        assert_eq!(chats.list().unwrap(), []);
        let name = |name: &str| UserName::new(name).unwrap();
        for (number, title) in [(1, Some("Letters")), (3, None), (2, Some("Notes"))] {
            let chat = SavedChat {
                title: title.map(str::to_owned),
                messages: vec![Message::user("hello")],
                ..SavedChat::default()
            };
            let name = name(&format!("chat-{number}"));
            chats.save(&name, &chat).unwrap();
            assert_eq!(chats.load(&name).unwrap(), chat);
            let saved = File::options()
                .append(true)
                .open(chats.file(&name))
                .unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(1000 * number);
            saved.set_modified(time).unwrap();
        }
        let listed = || -> Vec<(String, u64)> {
            let chats = chats.list().unwrap().into_iter();
            chats
                .map(|it| (it.title.clone(), it.changed_seconds()))
                .collect()
        };
        let expected = [("chat-3", 3000), ("Notes", 2000), ("Letters", 1000)];
        assert_eq!(
            listed(),
            expected.map(|(title, time)| (title.to_owned(), time))
        );
        chats.remove(&name("chat-2")).unwrap();
        assert_eq!(listed().len(), 2);
        let again = chats.remove(&name("chat-2")).unwrap_err();
        assert!(matches!(again, Error::Missing(Missing::Chat { known, .. }) if known.len() == 2));
        // A chat of a program that stores messages alone.
        fs::write(chats.file(&name("bare")), r#"{"messages":[]}"#).unwrap();
        assert_eq!(chats.load(&name("bare")).unwrap(), SavedChat::default());
    }
}
