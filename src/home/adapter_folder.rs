//! The folder in which an adapter of a user or a task is trained.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::json_lines::{append_jsonl, count_lines, read_jsonl, write_jsonl};
use super::{
    Manifest, StartAdapter, UserName, entries, open_if_there, remove_if_there, write_atomic,
    write_json,
};
use crate::error::Missing;
use crate::profile::feedback::Feedback;
use crate::profile::{HistoryPart, Profile};
use crate::{Error, Result};

/// The prefix of the file names of task adapters.
const TASK_PREFIX: &str = "task-";

/// The files that an adapter is trained from, and the files that training writes: each stage writes its result here.
///
/// ```text
/// history.jsonl  held_out.jsonl     examples to train on, and held-out ones to measure on
/// feedback.jsonl                    the user's verdicts on answers, from which mining and DPO learn
/// sft.gguf                          adapter after SFT
/// pairs.jsonl  held_out_pairs.jsonl pairs mined for DPO, to train on and to measure on
/// dpo.gguf                          adapter after DPO
/// adapter.gguf                      adapter after calibration, with which chats answer
/// previous.gguf                     adapter of the training before, which can be put back
/// task-<SHA-256>.gguf               copy of the task adapter that the adapter was trained on top of
/// manifest.json  train.jsonl        inputs, settings and figures of each stage; the log of training
/// mined.jsonl  measured.jsonl       journals of mining and calibration, from which a stopped one resumes
/// checkpoint.gguf                   state from which a stopped SFT or DPO resumes
/// ```
///
/// Older versions named the held-out files `kept_apart.jsonl` and `kept_apart_pairs.jsonl`; these are still read.
#[derive(Clone, Debug)]
pub struct AdapterFolder {
    path: PathBuf,
    name: UserName,
}

/// A lock that keeps other processes from changing a folder until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl AdapterFolder {
    pub(super) fn at(path: PathBuf, name: UserName) -> Self {
        Self { path, name }
    }

    /// The name of the user or task.
    #[must_use]
    pub fn name(&self) -> &UserName {
        &self.name
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the examples to train on.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.path.join("history.jsonl")
    }

    /// The file of the held-out examples.
    #[must_use]
    pub fn held_out(&self) -> PathBuf {
        self.file_or_old_name("held_out.jsonl", "kept_apart.jsonl")
    }

    /// The file of the adapter after SFT.
    #[must_use]
    pub fn sft(&self) -> PathBuf {
        self.path.join("sft.gguf")
    }

    /// The file of the adapter that this user's training starts from, in the folder of the other user, after checking its
    /// content. There is no copy of it in this folder.
    ///
    /// # Errors
    ///
    /// [`Missing::StartAdapter`] when the file does not exist or has another SHA-256.
    pub fn known_start(&self, start: &StartAdapter) -> Result<PathBuf> {
        let name = UserName::new(&start.user)?;
        let source = Self::at(self.path.with_file_name(name.as_str()), name).sft();
        if source.is_file() && cope_convert::sha256(&source)? == start.sha256 {
            return Ok(source);
        }
        let user = self.name.to_string();
        Err(Missing::StartAdapter { user }.into())
    }

    /// The file of the task adapter with this SHA-256, on top of which the user's adapter was trained. It is a copy, which
    /// does not change when the task is trained again.
    #[must_use]
    pub fn task(&self, sha256: &str) -> PathBuf {
        self.path.join(format!("{TASK_PREFIX}{sha256}.gguf"))
    }

    /// The file of the task adapter with this SHA-256, after checking its content.
    ///
    /// # Errors
    ///
    /// [`Missing::TaskAdapter`] when the file does not exist or has another SHA-256.
    pub fn known_task(&self, sha256: &str) -> Result<PathBuf> {
        let task = self.task(sha256);
        if task.is_file() && cope_convert::sha256(&task)? == sha256 {
            return Ok(task);
        }
        let user = self.name.to_string();
        Err(Missing::TaskAdapter { path: task, user }.into())
    }

    /// Stores a task adapter in this folder, unless it is there already, and returns its SHA-256. The file is hard-linked
    /// where the file system allows, which saves space when a task has many users, and copied otherwise.
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

    /// Removes all task adapters except those with these SHA-256.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when one cannot be removed.
    pub fn remove_tasks_but(&self, sha256s: &[&str]) -> Result<()> {
        let kept: Vec<_> = sha256s.iter().map(|sha256| self.task(sha256)).collect();
        for path in entries(&self.path)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(TASK_PREFIX) && !kept.contains(&path) {
                remove_if_there(&path)?;
            }
        }
        if kept.is_empty() {
            remove_if_there(&self.stacked())?;
        }
        Ok(())
    }

    /// The file of the task's and the user's adapter stacked into one for llama.cpp. It is written anew before each use.
    #[must_use]
    pub fn stacked(&self) -> PathBuf {
        self.path.join("stacked.gguf")
    }

    /// The file of the mined pairs to train on.
    #[must_use]
    pub fn pairs(&self) -> PathBuf {
        self.path.join("pairs.jsonl")
    }

    /// The file of the pairs mined for held-out examples.
    #[must_use]
    pub fn held_out_pairs(&self) -> PathBuf {
        self.file_or_old_name("held_out_pairs.jsonl", "kept_apart_pairs.jsonl")
    }

    /// The journal from which a stopped mining resumes.
    #[must_use]
    pub fn mined(&self) -> PathBuf {
        self.path.join("mined.jsonl")
    }

    /// The journal from which a stopped calibration resumes.
    #[must_use]
    pub fn measured(&self) -> PathBuf {
        self.path.join("measured.jsonl")
    }

    /// The checkpoint from which a stopped SFT or DPO resumes.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.gguf")
    }

    /// The file of the adapter after DPO.
    #[must_use]
    pub fn dpo(&self) -> PathBuf {
        self.path.join("dpo.gguf")
    }

    /// The file of the adapter after calibration, with which chats answer.
    #[must_use]
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter.gguf")
    }

    /// The file of the adapter with which chats answered before the last training.
    #[must_use]
    pub fn previous_adapter(&self) -> PathBuf {
        self.path.join("previous.gguf")
    }

    /// The file of the adapter with which chats answer, after checking that it exists.
    ///
    /// # Errors
    ///
    /// [`Missing::Adapter`] when the user is not trained.
    pub fn trained_adapter(&self) -> Result<PathBuf> {
        let adapter = self.adapter();
        if adapter.exists() {
            return Ok(adapter);
        }
        let user = self.name.to_string();
        Err(Missing::Adapter { user }.into())
    }

    /// The log of training: one JSON value per step.
    #[must_use]
    pub fn train_log(&self) -> PathBuf {
        self.path.join("train.jsonl")
    }

    /// Appends a line to the log of training.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be written.
    pub fn log_training(&self, line: &impl Serialize) -> Result<()> {
        append_jsonl(&self.train_log(), line)
    }

    /// Locks the folder against changes by other processes until the [`Lock`] is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process holds the lock.
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

    /// Reads the history and the held-out examples, without the thoughts of models that earlier versions stored; missing
    /// files count as empty.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be read; [`Error::Damaged`] when a line is malformed.
    pub fn profile(&self) -> Result<Profile> {
        let mut profile = self.stored_profile()?;
        profile.cut_thoughts();
        Ok(profile)
    }

    /// The number of stored examples of a part. The examples themselves are not read.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read.
    pub fn n_examples(&self, part: HistoryPart) -> Result<usize> {
        count_lines(&match part {
            HistoryPart::History => self.history(),
            HistoryPart::HeldOut => self.held_out(),
        })
    }

    /// Whether the stored texts have thoughts of models, which [`profile`](Self::profile) leaves out.
    ///
    /// # Errors
    ///
    /// Those of [`profile`](Self::profile).
    pub fn has_thoughts(&self) -> Result<bool> {
        Ok(self.stored_profile()?.cut_thoughts() > 0)
    }

    fn stored_profile(&self) -> Result<Profile> {
        Ok(Profile {
            history: read_jsonl(&self.history())?,
            held_out: read_jsonl(&self.held_out())?,
        })
    }

    /// Replaces the history and the held-out examples.
    ///
    /// # Errors
    ///
    /// A file cannot be written; it is then unchanged.
    pub fn save_profile(&self, profile: &Profile) -> Result<()> {
        write_jsonl(&self.history(), &profile.history)?;
        write_jsonl(&self.held_out(), &profile.held_out)
    }

    /// Reads the record of the training; `None` before the first stage has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read; [`Error::Damaged`] when it is malformed.
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
    /// The file cannot be written; it is then unchanged.
    pub fn save_manifest(&self, manifest: &Manifest) -> Result<()> {
        write_json(&self.manifest_path(), manifest)
    }

    /// Reads the user's verdicts on answers, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read; [`Error::Damaged`] when a line is malformed.
    pub fn feedback(&self) -> Result<Vec<Feedback>> {
        read_jsonl(&self.feedback_path())
    }

    /// Appends verdicts of the user on answers, with their secrets masked.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be written.
    pub fn add_feedback(&self, feedback: &[Feedback]) -> Result<()> {
        let path = self.feedback_path();
        feedback
            .iter()
            .try_for_each(|verdict| append_jsonl(&path, &verdict.masked()))
    }

    /// The file of the user's verdicts on answers.
    #[must_use]
    pub fn feedback_path(&self) -> PathBuf {
        self.path.join("feedback.jsonl")
    }

    /// The path of the file `name`, or of `old_name`, as older versions named it, when only that one exists.
    fn file_or_old_name(&self, name: &str, old_name: &str) -> PathBuf {
        let (path, older) = (self.path.join(name), self.path.join(old_name));
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
