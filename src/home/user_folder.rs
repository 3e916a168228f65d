//! The folder of one user.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use super::{
    AdapterFolder, AuditRecord, Lock, SavedChats, UserName, audit_record, create_folder,
    remove_folder_if_there, remove_if_there, write_json,
};
use crate::profile::{Example, HistoryPart, Profile};
use crate::{Error, Result};

/// Everything stored about a user: the [`AdapterFolder`] with history and adapter, and these files beside it:
///
/// ```text
/// typed_lines                           lines typed in chats with this user
/// key.json                              hash of the user's key to the server
/// identity.json                         e-mail address by which Open WebUI identifies the user
/// prompt_cache.base  prompt_cache.user  KV caches of the last chat
/// chats/<name>.json                     saved chats
/// guesses.jsonl                         the user's guesses which of two texts is their own
/// uploads/<id>/upload.<extension>       files from the page whose texts are not taken yet
/// audit.json                            record of the audit of the adapter
/// audit/                                the second training of an audit, while it runs
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

    /// Replaces each example, in the history and among the held-out ones, by what `change` makes of it; `None` removes it.
    /// Removes everything that was made of the examples before, but adapters: mined pairs, the journals and the checkpoint of a
    /// stopped training, the second training of a stopped audit, and the KV caches of chats, which may hold retrieved examples.
    /// Returns the number of changed examples.
    ///
    /// # Errors
    ///
    /// A file cannot be read, removed or written. The examples are then as they were.
    pub fn change_examples(
        &self,
        _lock: &Lock,
        mut change: impl FnMut(&Example) -> Option<Example>,
    ) -> Result<usize> {
        let Profile { history, held_out } = self.profile()?;
        let mut n_changed = 0;
        let mut kept = |examples: Vec<Example>| -> Vec<Example> {
            let examples = examples.into_iter().filter_map(|example| {
                let changed = change(&example);
                n_changed += usize::from(changed.as_ref() != Some(&example));
                changed
            });
            examples.collect()
        };
        let mut profile = Profile::default();
        profile.add(HistoryPart::History, kept(history));
        profile.add(HistoryPart::HeldOut, kept(held_out));
        if n_changed > 0 {
            let caches = ["base", "user"].map(|arm| self.prompt_cache(arm));
            let made = [
                self.pairs(),
                self.held_out_pairs(),
                self.mined(),
                self.measured(),
                self.checkpoint(),
            ];
            made.iter()
                .chain(&caches)
                .try_for_each(|path| remove_if_there(path))?;
            self.remove_audit_training()?;
            self.save_profile(&profile)?;
        }
        Ok(n_changed)
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

    /// Reads the record of the audit, if there is one of the present adapter.
    ///
    /// # Errors
    ///
    /// Those of [`AuditRecord::beside`].
    pub fn audit_record(&self) -> Result<Option<AuditRecord>> {
        AuditRecord::beside(&self.folder.adapter())
    }

    /// Replaces the record of the audit.
    ///
    /// # Errors
    ///
    /// The file cannot be written; it is then unchanged.
    pub fn save_audit_record(&self, record: &AuditRecord) -> Result<()> {
        write_json(&self.folder.path().join(audit_record::FILE), record)
    }

    /// The folder of an audit's second training, which is made with canaries among the user's texts. It is created if it is
    /// not there, and goes on from where it was stopped if it is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn audit_training(&self) -> Result<AdapterFolder> {
        let path = self.audit_training_path();
        create_folder(&path)?;
        Ok(AdapterFolder::at(path, self.name().clone()))
    }

    /// Deletes the folder of an audit's second training, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be removed.
    pub fn remove_audit_training(&self) -> Result<()> {
        remove_folder_if_there(&self.audit_training_path())
    }

    fn audit_training_path(&self) -> PathBuf {
        self.folder.path().join("audit")
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
