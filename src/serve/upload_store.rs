//! Uploaded files, from their arrival until their texts are taken, and what reading each has given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::api_error::ApiError;
use super::aside::aside;
use super::upload_options::UploadOptions;
use super::upload_preview::{ReceivedFile, preview};
use crate::home::{UserFolder, UserName};

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
    user: UserName,
    pub received: ReceivedFile,
    arrived: Instant,
    reading: watch::Sender<Reading>,
}

/// The reading of a file, and its result.
#[derive(Debug, Default)]
struct Reading {
    /// The options of the last reading; `None` before the first one.
    options: Option<UploadOptions>,
    /// Its result; `None` while the file is being read.
    preview: Option<Value>,
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
    pub fn add(&self, user: &UserName, received: ReceivedFile) -> String {
        let id = received.file.id();
        let upload = Upload {
            user: user.clone(),
            received,
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
        own.map(|upload| upload.received.n_bytes).sum()
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
            .filter(|upload| upload.user == *user && upload.received.is_there());
        let unknown = || ApiError::not_found("there is no such upload; it may have expired");
        found.cloned().ok_or_else(unknown)
    }

    /// Deletes a file.
    pub fn remove(&self, upload: &Upload) {
        self.uploads().remove(&upload.received.file.id());
    }

    /// Deletes the files that have been here for long, and forgets those that are gone.
    pub fn sweep(&self) {
        let is_kept =
            |upload: &Upload| upload.arrived.elapsed() < LIFETIME && upload.received.is_there();
        self.uploads().retain(|_, upload| is_kept(upload));
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Arc<Upload>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The preview of an import of the file with these options. The state is `reading` while that is not known yet.
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
        let read = aside(move || Ok(preview(&file.received, &user, &asked))).await;
        let read =
            read.unwrap_or_else(|error| json!({ "state": "failed", "message": error.message }));
        upload.reading.send_modify(|reading| {
            if is_wanted(reading) {
                reading.preview = Some(read);
            }
        });
    }
}
