//! Uploaded files, from their arrival until their texts are taken, and what reading each has given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::api_error::ApiError;
use super::aside::aside;
use super::upload_preview::preview;
use crate::home::{UploadedFile, UserFolder, UserName};
use crate::profile::{HistoryPart, ImportOptions, Masking, Speaker};

/// The time after which an upload is deleted whose texts nobody has taken.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The time that a request waits for a file to be read.
const SOON: Duration = Duration::from_secs(1);

/// The files of all users that have arrived.
#[derive(Debug)]
pub struct UploadStore {
    uploads: Mutex<HashMap<String, Arc<Upload>>>,
    /// One file is read at a time, since a large one takes memory.
    reading: Semaphore,
}

/// A file that has arrived.
#[derive(Debug)]
pub struct Upload {
    pub user: UserName,
    /// The name that it had where it came from, for people to read.
    pub name: String,
    pub n_bytes: u64,
    pub file: UploadedFile,
    arrived: Instant,
    reading: watch::Sender<Reading>,
}

/// What reading a file gave.
#[derive(Debug, Default)]
struct Reading {
    /// The options of the last reading; `None` before the first one.
    options: Option<UploadOptions>,
    /// What it gave; `None` while the file is being read.
    preview: Option<Value>,
}

/// Facts that a file itself does not state, as a request gives them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadOptions {
    pub author: Vec<String>,
    pub speaker: Option<Speaker>,
    pub lamp_user: Option<String>,
    pub columns: Option<[String; 2]>,
    pub keep_secrets: bool,
    pub keep_signature: bool,
    /// Whether the texts are to be held out.
    pub held_out: bool,
}

impl UploadOptions {
    /// The part of the history that the texts are for.
    pub fn part(&self) -> HistoryPart {
        if self.held_out {
            HistoryPart::HeldOut
        } else {
            HistoryPart::History
        }
    }

    /// The options of an import.
    pub fn import_options(&self) -> ImportOptions {
        ImportOptions {
            lamp_user: self.lamp_user.clone(),
            authors: self.author.clone(),
            columns: self.columns.clone(),
            speaker: self.speaker,
            keep_signature: self.keep_signature,
            masking: Masking {
                keeps_secrets: self.keep_secrets,
                own_addresses: self.author.clone(),
                ..Masking::default()
            },
        }
    }
}

impl Default for UploadStore {
    fn default() -> Self {
        Self {
            uploads: Mutex::default(),
            reading: Semaphore::new(1),
        }
    }
}

impl UploadStore {
    /// Adds a file of `user` that has arrived in full, and returns its id.
    pub fn add(&self, user: &UserName, name: String, n_bytes: u64, file: UploadedFile) -> String {
        let id = file.id();
        let upload = Upload {
            user: user.clone(),
            name,
            n_bytes,
            file,
            arrived: Instant::now(),
            reading: watch::Sender::default(),
        };
        self.uploads().insert(id.clone(), Arc::new(upload));
        id
    }

    /// The bytes of the user's files together.
    pub fn n_bytes(&self, user: &UserName) -> u64 {
        let uploads = self.uploads();
        let own = uploads.values().filter(|upload| upload.user == *user);
        own.map(|upload| upload.n_bytes).sum()
    }

    /// The user's file of this id.
    ///
    /// # Errors
    ///
    /// [`ApiError::not_found`] when the user has none.
    pub fn get(&self, user: &UserName, id: &str) -> Result<Arc<Upload>, ApiError> {
        let uploads = self.uploads();
        // The files of a user who was deleted are gone.
        let found = uploads
            .get(id)
            .filter(|upload| upload.user == *user && upload.file.path().is_file());
        let unknown = || ApiError::not_found("there is no such upload; it may have expired");
        found.cloned().ok_or_else(unknown)
    }

    /// Deletes a file.
    pub fn remove(&self, upload: &Upload) {
        self.uploads().remove(&upload.file.id());
    }

    /// Deletes the files that have been here for long, and forgets those that are gone.
    pub fn sweep(&self) {
        let is_kept =
            |upload: &Upload| upload.arrived.elapsed() < LIFETIME && upload.file.path().is_file();
        self.uploads().retain(|_, upload| is_kept(upload));
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Arc<Upload>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an import of the file with these options would give. The state is `reading` while that is not known yet.
    pub async fn preview(
        self: &Arc<Self>,
        upload: &Arc<Upload>,
        user: UserFolder,
        options: UploadOptions,
    ) -> Value {
        let is_new = upload.reading.send_if_modified(|reading| {
            let is_new = reading.options.as_ref() != Some(&options);
            if is_new {
                *reading = Reading {
                    options: Some(options.clone()),
                    preview: None,
                };
            }
            is_new
        });
        if is_new {
            let (store, upload) = (Arc::clone(self), Arc::clone(upload));
            tokio::spawn(async move { store.read(&upload, user, options).await });
        }
        let mut readings = upload.reading.subscribe();
        let read = readings.wait_for(|reading| reading.preview.is_some());
        match timeout(SOON, read).await {
            Ok(Ok(reading)) => reading.preview.clone().unwrap_or_default(),
            _ => json!({ "state": "reading" }),
        }
    }

    /// Reads a file, unless other options are wanted by the time it is the file's turn.
    async fn read(&self, upload: &Arc<Upload>, user: UserFolder, options: UploadOptions) {
        // The semaphore is never closed.
        let _permit = self.reading.acquire().await;
        let is_wanted = |reading: &Reading| reading.options.as_ref() == Some(&options);
        if !is_wanted(&upload.reading.borrow()) {
            return;
        }
        let (file, asked) = (Arc::clone(upload), options.clone());
        let read = aside(move || Ok(preview(&file, &user, &asked))).await;
        let read =
            read.unwrap_or_else(|error| json!({ "state": "failed", "message": error.message }));
        upload.reading.send_modify(|reading| {
            if is_wanted(reading) {
                reading.preview = Some(read);
            }
        });
    }
}
