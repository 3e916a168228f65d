//! The folder of one user.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use super::{AdapterFolder, SavedChats, UserName};
use crate::{Error, Result};

/// Everything stored about a user: the [`AdapterFolder`] with history and adapter, and these files beside it:
///
/// ```text
/// typed_lines                           lines typed in chats with this user
/// key.json                              hash of the user's key to the server
/// identity.json                         e-mail address by which Open WebUI identifies the user
/// prompt_cache.base  prompt_cache.user  KV caches of the last chat
/// chats/<name>.json                     saved chats
/// ```
#[derive(Clone, Debug)]
pub struct UserFolder {
    folder: AdapterFolder,
}

impl Deref for UserFolder {
    type Target = AdapterFolder;

    fn deref(&self) -> &AdapterFolder {
        &self.folder
    }
}

impl UserFolder {
    pub(super) fn at(path: PathBuf, name: UserName) -> Self {
        Self {
            folder: AdapterFolder::at(path, name),
        }
    }

    /// The file of the lines typed in chats with this user.
    #[must_use]
    pub fn typed_lines(&self) -> PathBuf {
        self.folder.path().join("typed_lines")
    }

    /// The file of the KV cache of a chat's context; `arm` is `base` or `user`.
    #[must_use]
    pub fn prompt_cache(&self, arm: &str) -> PathBuf {
        self.folder.path().join(format!("prompt_cache.{arm}"))
    }

    /// The saved chats with this user.
    #[must_use]
    pub fn chats(&self) -> SavedChats {
        SavedChats::at(self.folder.path().join("chats"))
    }

    /// The file with the hash of the user's key to the server.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.json")
    }

    /// The file with the e-mail address by which Open WebUI identifies the user.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("identity.json")
    }

    /// Deletes the folder with everything in it. The folder is renamed first, so that an interrupted deletion never leaves
    /// a user with half a history.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process is importing or training; [`Error::Io`] when a file cannot be removed.
    pub fn delete(self) -> Result<()> {
        let _lock = self.lock()?;
        let users = self.path().parent().unwrap_or(self.path());
        let trash = tempfile::Builder::new()
            .prefix(".deleted-")
            .tempdir_in(users)
            .map_err(Error::io("delete", self.path()))?;
        fs::rename(self.path(), trash.path().join(self.name().as_str()))
            .map_err(Error::io("delete", self.path()))?;
        trash.close().map_err(Error::io("delete", self.path()))
    }
}
