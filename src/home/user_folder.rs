//! One user's folder.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use super::{AdapterFolder, UserName};
use crate::{Error, Result};

/// Everything that is stored about a user: the [`AdapterFolder`] of their history and adapter, and beside its files
///
/// ```text
/// typed_lines                        the lines typed in chats with this user
/// key.json  identity.json            the hash of the key to the server; the address that other programs know
/// prompt_cache.base  prompt_cache.user  what the contexts of the last chat had read
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

    /// The lines typed in chats with this user.
    #[must_use]
    pub fn typed_lines(&self) -> PathBuf {
        self.folder.path().join("typed_lines")
    }

    /// What a context of a chat with this user had read: `arm` is `base` or `user`.
    #[must_use]
    pub fn prompt_cache(&self, arm: &str) -> PathBuf {
        self.folder.path().join(format!("prompt_cache.{arm}"))
    }

    /// The hash of the user's key to the server.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.json")
    }

    /// Under which address other programs know the user.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("identity.json")
    }

    /// Deletes the folder with everything in it: first under another name, so that a stop in the middle leaves no user
    /// with half a history.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Locked`] when another process is at work on the folder.
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
