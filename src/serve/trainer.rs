//! Training that the page has asked for: one at a time, on a thread of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::app::App;
use super::auth::Caller;
use super::error::ApiError;
use super::page_api::user;
use crate::Error;
use crate::home::{BaseRef, Stage, UserFolder, UserName};
use crate::train::{TrainConfig, TrainEvent, Training, train};

/// How far a user's training is.
pub async fn status(
    Shared(app): Shared<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let user = user(&app, &caller, &name)?;
    Ok(Json(app.trainer.status(user.name())))
}

/// Begins it.
pub async fn start(
    Shared(app): Shared<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let user = user(&app, &caller, &name)?;
    let path = app.options.base.clone();
    let base = app.home.base_ref(&path)?;
    let name = user.name().clone();
    app.trainer.start(user, path, base)?;
    Ok(Json(app.trainer.status(&name)))
}

/// Stops it.
pub async fn stop(
    Shared(app): Shared<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let user = user(&app, &caller, &name)?;
    app.trainer.stop(user.name());
    Ok(Json(app.trainer.status(user.name())))
}

/// What is being trained, or was last.
#[derive(Debug, Default)]
pub struct Trainer(Arc<Mutex<Option<UserTraining>>>);

#[derive(Debug)]
struct UserTraining {
    user: UserName,
    state: State,
    stop: Arc<AtomicBool>,
    stage: Option<Stage>,
    done: usize,
    total: usize,
    /// When this stage began, and how much of it was done then.
    begun: (Instant, usize),
    /// By stage, a value a step.
    losses: BTreeMap<String, Vec<f64>>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    Stopped,
    Failed(String),
}

impl Trainer {
    /// Begins to train a user on the base at `path`, by the settings of their last training, or goes on with it.
    ///
    /// # Errors
    ///
    /// Somebody is being trained already, or the user's manifest cannot be read.
    pub fn start(
        &self,
        folder: UserFolder,
        path: PathBuf,
        mut base: BaseRef,
    ) -> Result<(), ApiError> {
        let mut training = self.training();
        if training
            .as_ref()
            .is_some_and(|it| it.state == State::Running)
        {
            return Err(ApiError::conflict(
                "a training is under way; wait until it has ended",
            ));
        }
        let manifest = folder.manifest()?;
        let config = manifest
            .as_ref()
            .map_or_else(TrainConfig::default, TrainConfig::from_manifest);
        let last = manifest.filter(|it| it.base.sha256 == base.sha256);
        base.task_sha256 = last.and_then(|it| it.base.task_sha256);
        let stop = Arc::new(AtomicBool::new(false));
        *training = Some(UserTraining {
            user: folder.name().clone(),
            state: State::Running,
            stop: Arc::clone(&stop),
            stage: None,
            done: 0,
            total: 0,
            begun: (Instant::now(), 0),
            losses: BTreeMap::new(),
        });
        drop(training);
        let shared = Arc::clone(&self.0);
        let work = move || {
            let mut observe = |event: TrainEvent| {
                if let Some(training) = &mut *locked(&shared) {
                    training.hear(&event);
                }
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                Ok(())
            };
            let training = Training {
                folder: &folder,
                base_path: &path,
                base: &base,
                config: &config,
                stages: &Stage::ALL,
            };
            let result = train(training, &mut observe);
            if let Some(training) = &mut *locked(&shared) {
                training.state = match result {
                    Ok(()) => State::Ended,
                    Err(Error::Interrupted) => State::Stopped,
                    Err(error) => State::Failed(error.to_string()),
                };
            }
        };
        let thread = std::thread::Builder::new().name("train".into());
        let started = thread.spawn(work);
        started
            .map(drop)
            .map_err(|error| ApiError::internal(format!("cannot start a thread: {error}")))
    }

    /// Stops the training of a user, if it is under way.
    pub fn stop(&self, user: &UserName) {
        if let Some(training) = self.training().as_ref().filter(|it| it.user == *user) {
            training.stop.store(true, Ordering::Relaxed);
        }
    }

    /// How far the training of a user is.
    pub fn status(&self, user: &UserName) -> Value {
        let training = self.training();
        let Some(training) = training.as_ref().filter(|it| it.user == *user) else {
            return json!({ "state": "none", "stage": null, "done": 0, "total": 0, "seconds_left": null, "losses": {}, "message": null });
        };
        let (state, message) = match &training.state {
            State::Running => ("running", None),
            State::Ended => ("ended", None),
            State::Stopped => ("stopped", None),
            State::Failed(message) => ("failed", Some(message)),
        };
        json!({
            "state": state,
            "stage": training.stage.map(|stage| stage.to_string()),
            "done": training.done,
            "total": training.total,
            "seconds_left": training.seconds_left(),
            "losses": training.losses,
            "message": message,
        })
    }

    fn training(&self) -> MutexGuard<'_, Option<UserTraining>> {
        locked(&self.0)
    }
}

fn locked(training: &Mutex<Option<UserTraining>>) -> MutexGuard<'_, Option<UserTraining>> {
    training.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UserTraining {
    fn hear(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Started { stage, total, done } => {
                (self.stage, self.total, self.done) = (Some(*stage), *total, *done);
                self.begun = (Instant::now(), *done);
            }
            TrainEvent::Step {
                stage,
                done,
                metrics,
            } => {
                self.done = *done;
                if let Some(loss) = metrics.get("loss") {
                    self.losses
                        .entry(stage.to_string())
                        .or_default()
                        .push(*loss);
                }
            }
            _ => {}
        }
    }

    fn seconds_left(&self) -> Option<f64> {
        let (begun, before) = self.begun;
        let n = self.done.checked_sub(before).filter(|n| *n > 0)?;
        let left = self.total.saturating_sub(self.done);
        Some(begun.elapsed().as_secs_f64() / n as f64 * left as f64)
    }
}
