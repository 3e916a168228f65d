//! The folder in which an adapter is trained: a user's or a task's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::jsonl::{append_jsonl, read_jsonl, write_jsonl};
use super::{
    Manifest, UserName, entries, open_if_there, remove_if_there, write_atomic, write_json,
};
use crate::error::Missing;
use crate::profile::Profile;
use crate::profile::feedback::Feedback;
use crate::{Error, Result};

/// What the names of task adapters begin with.
const TASK: &str = "task-";

/// The files from which an adapter is trained, and those that training leaves. Each stage ends in a file here.
///
/// ```text
/// history.jsonl  held_out.jsonl     what the user wrote: to train on, to measure on
/// sft.gguf  pairs.jsonl             after SFT; mined pairs
/// adapter.gguf                      after DPO
/// manifest.json  train.jsonl        how it came about; the log of training
/// feedback.jsonl                    the user's verdicts on answers, from which DPO learns too
/// ```
#[derive(Clone, Debug)]
pub struct AdapterFolder {
    path: PathBuf,
    name: UserName,
}

/// Holds a folder against other processes until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl AdapterFolder {
    pub(super) fn at(path: PathBuf, name: UserName) -> Self {
        Self { path, name }
    }

    /// Whose folder it is.
    #[must_use]
    pub fn name(&self) -> &UserName {
        &self.name
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The examples to train on.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.path.join("history.jsonl")
    }

    /// The examples to measure on.
    #[must_use]
    pub fn held_out(&self) -> PathBuf {
        self.named("held_out.jsonl", "kept_apart.jsonl")
    }

    /// The adapter after SFT.
    #[must_use]
    pub fn sft(&self) -> PathBuf {
        self.path.join("sft.gguf")
    }

    /// The task adapter of this SHA-256 that the user's was trained on top of: a copy, so that it stays the one.
    #[must_use]
    pub fn task(&self, sha256: &str) -> PathBuf {
        self.path.join(format!("{TASK}{sha256}.gguf"))
    }

    /// The path of a task adapter, made sure to be the one of this SHA-256.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when it is not there or another.
    pub fn known_task(&self, sha256: &str) -> Result<PathBuf> {
        let task = self.task(sha256);
        if task.is_file() && cope_convert::sha256(&task)? == sha256 {
            return Ok(task);
        }
        let user = self.name.to_string();
        Err(Missing::TaskAdapter { path: task, user }.into())
    }

    /// Keeps a task adapter, unless it is there: the same file under another name where the file system allows, so that
    /// many users of a task take little room, else a copy. Returns its SHA-256.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read or written.
    pub fn add_task(&self, adapter: &Path) -> Result<String> {
        let sha256 = cope_convert::sha256(adapter)?;
        if self.known_task(&sha256).is_err() {
            let kept = self.task(&sha256);
            if fs::hard_link(adapter, &kept).is_err() {
                let bytes = fs::read(adapter).map_err(Error::io("read", adapter))?;
                write_atomic(&kept, |file| file.write_all(&bytes))?;
            }
        }
        Ok(sha256)
    }

    /// Removes the task adapters that the user's is not trained on top of any more.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when one cannot be removed.
    pub fn remove_tasks_but(&self, sha256: Option<&str>) -> Result<()> {
        let kept = sha256.map(|sha256| self.task(sha256));
        for path in entries(&self.path)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(TASK) && Some(&path) != kept.as_ref() {
                remove_if_there(&path)?;
            }
        }
        if kept.is_none() {
            remove_if_there(&self.stacked())?;
        }
        Ok(())
    }

    /// Task and user's adapter as one, for llama.cpp; made anew from both whenever it is wanted.
    #[must_use]
    pub fn stacked(&self) -> PathBuf {
        self.path.join("stacked.gguf")
    }

    /// The mined pairs.
    #[must_use]
    pub fn pairs(&self) -> PathBuf {
        self.path.join("pairs.jsonl")
    }

    /// Pairs mined for what is held out, to measure on.
    #[must_use]
    pub fn held_out_pairs(&self) -> PathBuf {
        self.named("held_out_pairs.jsonl", "kept_apart_pairs.jsonl")
    }

    /// The pairs of a mining that was stopped.
    #[must_use]
    pub fn mined(&self) -> PathBuf {
        self.path.join("mined.jsonl")
    }

    /// Where a fit that was stopped goes on from.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.gguf")
    }

    /// The adapter after DPO, which chats use.
    #[must_use]
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter.gguf")
    }

    /// The path of that adapter, made sure to be there.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the user is not trained.
    pub fn trained_adapter(&self) -> Result<PathBuf> {
        let adapter = self.adapter();
        if adapter.exists() {
            return Ok(adapter);
        }
        let user = self.name.to_string();
        Err(Missing::Adapter { user }.into())
    }

    /// The log of training.
    #[must_use]
    pub fn train_log(&self) -> PathBuf {
        self.path.join("train.jsonl")
    }

    /// Adds a line to the log of training.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn log_training(&self, line: &impl Serialize) -> Result<()> {
        append_jsonl(&self.train_log(), line)
    }

    /// Locks the folder for changes until the [`Lock`] is dropped, which the end of the process does too.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process holds it.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path.join("lock");
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked(self.name.to_string())),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// Everything that is known of the user.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be read, [`Error::Input`] when a line is malformed.
    pub fn profile(&self) -> Result<Profile> {
        Ok(Profile {
            history: read_jsonl(&self.history())?,
            held_out: read_jsonl(&self.held_out())?,
        })
    }

    /// Replaces both parts of the profile.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn save_profile(&self, profile: &Profile) -> Result<()> {
        write_jsonl(&self.history(), &profile.history)?;
        write_jsonl(&self.held_out(), &profile.held_out)
    }

    /// How the adapter came about; `None` before the first stage.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read, [`Error::Input`] when it is malformed.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        let path = self.manifest_path();
        let Some(file) = open_if_there(&path)? else {
            return Ok(None);
        };
        serde_json::from_reader(BufReader::new(file))
            .map(Some)
            .map_err(|error| {
                let reason = format!("{error}; delete the file and train {} again", self.name);
                Error::Damaged { path, reason }
            })
    }

    /// Replaces the manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn save_manifest(&self, manifest: &Manifest) -> Result<()> {
        write_json(&self.manifest_path(), manifest)
    }

    /// What the user has said of answers, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read, [`Error::Input`] when a line is malformed.
    pub fn feedback(&self) -> Result<Vec<Feedback>> {
        read_jsonl(&self.feedback_path())
    }

    /// Adds what the user says of an answer.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn add_feedback(&self, feedback: &[Feedback]) -> Result<()> {
        let path = self.feedback_path();
        feedback.iter().try_for_each(|one| append_jsonl(&path, one))
    }

    /// The file of what the user has said of answers.
    #[must_use]
    pub fn feedback_path(&self) -> PathBuf {
        self.path.join("feedback.jsonl")
    }

    /// A file's path; `before` is the name that older versions gave it, under which it stays where it is.
    fn named(&self, name: &str, before: &str) -> PathBuf {
        let (path, older) = (self.path.join(name), self.path.join(before));
        if !path.exists() && older.exists() {
            older
        } else {
            path
        }
    }

    fn manifest_path(&self) -> PathBuf {
        self.path.join("manifest.json")
    }
}
