//! Training in the background: one user at a time, on a thread of its own.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::api_error::ApiError;
use super::training_progress::TrainingProgress;
use crate::home::{BaseRef, Manifest, Stage, UserFolder, UserName};
use crate::train::{TrainConfig, TrainEvent, TrainObserver, Training, train_locked};
use crate::{Error, Result};

/// Time between two looks at whether a training has ended.
const POLL: Duration = Duration::from_millis(20);

/// The training under way, or the last one.
#[derive(Debug, Default)]
pub struct Trainer(Arc<Mutex<Option<UserTraining>>>);

#[derive(Debug)]
struct UserTraining {
    user: UserName,
    state: State,
    /// Set to stop the training, within a pass or at its next event.
    stop: Arc<AtomicBool>,
    progress: TrainingProgress,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    Stopped,
    /// It failed, for this reason.
    Failed(String),
}

impl Trainer {
    /// Trains a user on the base at `path`, with the settings of their last training. A training that was stopped is
    /// resumed. The user's folder is locked until it ends.
    ///
    /// # Errors
    ///
    /// [`ApiError::conflict`] while another training is running, or the user's texts are being imported;
    /// [`ApiError::unavailable`] when no thread can be started; [`ApiError::internal`] when the user's manifest cannot be
    /// read.
    pub fn start(
        &self,
        folder: UserFolder,
        path: PathBuf,
        mut base: BaseRef,
    ) -> Result<(), ApiError> {
        let lock = folder.lock()?;
        let manifest = folder.manifest()?;
        let progress = TrainingProgress::new(seconds_of_last(manifest.as_ref(), &base));
        let config = settings_of_last(manifest, &mut base);
        let user = folder.name().clone();
        let work = move |observe: TrainObserver, stop: &Arc<AtomicBool>| {
            let training = Training {
                folder: &folder,
                base_path: &path,
                base: &base,
                config: &config,
                stages: &Stage::ALL,
                stop: Some(stop),
            };
            train_locked(&lock, training, observe)
        };
        self.run(user, progress, work, |work| {
            let thread = std::thread::Builder::new().name("train".into());
            thread.spawn(work).map(drop)
        })
    }

    /// Runs `work`, the training of `user`, on the thread that `spawn` starts. However the work ends, by an error, a panic
    /// or for want of a thread, the state says so.
    fn run(
        &self,
        user: UserName,
        progress: TrainingProgress,
        work: impl FnOnce(TrainObserver, &Arc<AtomicBool>) -> Result<()> + Send + 'static,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
    ) -> Result<(), ApiError> {
        let stop = Arc::new(AtomicBool::new(false));
        self.begin(user, progress, Arc::clone(&stop))?;
        let shared = Arc::clone(&self.0);
        let thread = move || {
            let mut observe = |event: TrainEvent| {
                if let Some(training) = &mut *locked(&shared) {
                    training.progress.update(&event);
                }
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                Ok(())
            };
            // Nothing that the work leaves half done is used after a panic: it is read from disk again.
            let result = catch_unwind(AssertUnwindSafe(|| work(&mut observe, &stop)));
            let state = match result {
                Ok(Ok(())) => State::Ended,
                Ok(Err(Error::Interrupted)) => State::Stopped,
                Ok(Err(error)) => State::Failed(error.to_string()),
                Err(panic) => State::Failed(Error::bug(message(&*panic)).to_string()),
            };
            set_state(&shared, state);
        };
        spawn(Box::new(thread)).map_err(|error| {
            let error = format!("cannot start the training thread: {error}");
            set_state(&self.0, State::Failed(error.clone()));
            ApiError::unavailable(error)
        })
    }

    /// Records that the training of `user` is running.
    fn begin(
        &self,
        user: UserName,
        progress: TrainingProgress,
        stop: Arc<AtomicBool>,
    ) -> Result<(), ApiError> {
        let mut training = self.training();
        let is_running = |it: &UserTraining| it.state == State::Running;
        if training.as_ref().is_some_and(is_running) {
            return Err(ApiError::conflict(
                "another training is running; wait until it has ended",
            ));
        }
        *training = Some(UserTraining {
            user,
            state: State::Running,
            stop,
            progress,
        });
        Ok(())
    }

    /// Stops the training of a user, if it is running.
    pub fn stop(&self, user: &UserName) {
        if let Some(training) = self.training().as_ref().filter(|it| it.user == *user) {
            training.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Tells the training that is running, if there is one, to stop.
    pub fn stop_any(&self) {
        if let Some(training) = self.training().as_ref() {
            training.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Stops the training that is running, if there is one, and waits until it has saved what it has done.
    pub fn end(&self) {
        self.stop_any();
        let is_running = |it: &UserTraining| it.state == State::Running;
        while self.training().as_ref().is_some_and(is_running) {
            std::thread::sleep(POLL);
        }
    }

    /// The progress of a user's training.
    pub fn status(&self, user: &UserName) -> Value {
        let training = self.training();
        let Some(training) = training.as_ref().filter(|it| it.user == *user) else {
            return with_state(
                TrainingProgress::new(BTreeMap::new()).json(false),
                "none",
                None,
            );
        };
        let (state, message) = match &training.state {
            State::Running => ("running", None),
            State::Ended => ("ended", None),
            State::Stopped => ("stopped", None),
            State::Failed(message) => ("failed", Some(message.as_str())),
        };
        let is_running = training.state == State::Running;
        with_state(training.progress.json(is_running), state, message)
    }

    fn training(&self) -> MutexGuard<'_, Option<UserTraining>> {
        locked(&self.0)
    }
}

/// The fields of a training's progress, and how it ended.
fn with_state(mut progress: Value, state: &str, message: Option<&str>) -> Value {
    progress["state"] = json!(state);
    progress["message"] = json!(message);
    progress
}

/// Seconds that each stage of the last training took, if that was on this base too.
fn seconds_of_last(manifest: Option<&Manifest>, base: &BaseRef) -> BTreeMap<Stage, f64> {
    let last = manifest.filter(|last| last.base.sha256 == base.sha256);
    let stages = last.into_iter().flat_map(|last| &last.stages);
    stages.map(|(stage, it)| (*stage, it.seconds)).collect()
}

/// The settings of the last training. If that was on this base too, its task adapter and the adapter that it started from
/// are used again.
fn settings_of_last(manifest: Option<Manifest>, base: &mut BaseRef) -> TrainConfig {
    let mut config = manifest
        .as_ref()
        .map_or_else(TrainConfig::default, TrainConfig::from_manifest);
    match manifest.filter(|last| last.base.sha256 == base.sha256) {
        Some(last) => base.task_sha256 = last.base.task_sha256,
        None => config.start = None,
    }
    config
}

/// The training, also after a panic of a thread that held the lock.
fn locked(training: &Mutex<Option<UserTraining>>) -> MutexGuard<'_, Option<UserTraining>> {
    training.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_state(training: &Mutex<Option<UserTraining>>, state: State) {
    if let Some(training) = &mut *locked(training) {
        training.state = state;
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the training panicked").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use axum::http::StatusCode;

    use super::*;
    use crate::home::{StageRecord, StartAdapter};

    fn ann() -> UserName {
        UserName::new("ann").unwrap()
    }

    fn fresh() -> TrainingProgress {
        TrainingProgress::new(BTreeMap::new())
    }

    /// Runs `work` to its end on this thread, and gives the state that the page then shows.
    fn state_after(
        work: impl FnOnce(TrainObserver, &Arc<AtomicBool>) -> Result<()> + Send + 'static,
    ) -> Value {
        let trainer = Trainer::default();
        let here = |work: Box<dyn FnOnce() + Send>| {
            work();
            Ok(())
        };
        trainer.run(ann(), fresh(), work, here).unwrap();
        trainer.status(&ann())
    }

    #[test]
    fn a_training_on_the_base_of_the_last_one_starts_as_that_one_did() {
        let base = |sha256: &str| BaseRef {
            file: "base.gguf".into(),
            sha256: sha256.into(),
            architecture: "llama".into(),
            task_sha256: None,
        };
        let start = StartAdapter {
            user: "bob".into(),
            sha256: "b0b".into(),
        };
        let sft = StageRecord {
            inputs: String::new(),
            settings: json!({ "seed": 7 }),
            start: Some(start.clone()),
            figures: BTreeMap::new(),
            seconds: 1.0,
        };
        let last = Manifest {
            base: BaseRef {
                task_sha256: Some("7a5c".into()),
                ..base("one")
            },
            stages: [(Stage::Sft, sft)].into(),
            adapter: None,
            previous: None,
        };
        for (sha256, task, start) in [
            ("one", Some("7a5c".to_owned()), Some(start)),
            ("other", None, None),
        ] {
            let mut base = base(sha256);
            let config = settings_of_last(Some(last.clone()), &mut base);
            assert_eq!((config.seed, config.start), (7, start));
            assert_eq!(base.task_sha256, task);
        }
        let default = settings_of_last(None, &mut base("one"));
        assert_eq!(default, TrainConfig::default());
    }

    #[test]
    fn a_training_that_panics_has_failed_and_another_can_start() {
        let trainer = Trainer::default();
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            std::thread::spawn(work).join().unwrap();
            Ok(())
        };
        trainer
            .run(
                ann(),
                fresh(),
                |_, _| panic!("step 3 is not a number"),
                spawn,
            )
            .unwrap();
        let status = trainer.status(&ann());
        assert_eq!(status["state"], "failed");
        assert_eq!(
            status["message"],
            "step 3 is not a number; this is a bug of cope-llama"
        );
        trainer.run(ann(), fresh(), |_, _| Ok(()), spawn).unwrap();
        assert_eq!(trainer.status(&ann())["state"], "ended");
    }

    #[test]
    fn a_training_thread_that_cannot_start_has_failed() {
        let trainer = Trainer::default();
        let refuse = |_| Err(io::Error::other("too many threads"));
        let error = trainer
            .run(ann(), fresh(), |_, _| Ok(()), refuse)
            .unwrap_err();
        assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.retry_after.is_some());
        let status = trainer.status(&ann());
        assert_eq!(status["state"], "failed");
        let reason = "cannot start the training thread: too many threads";
        assert_eq!(status["message"], reason);
        assert_eq!(error.message, reason);
    }

    #[test]
    fn the_state_says_how_a_training_ended() {
        let failed = state_after(|_, _| Err(Error::Train("the loss is not finite".into())));
        assert_eq!(failed["state"], "failed");
        assert_eq!(failed["message"], "training failed: the loss is not finite");
        let stopped = state_after(|_, _| Err(Error::Interrupted));
        assert_eq!(stopped["state"], "stopped");
        assert_eq!(stopped["message"], Value::Null);
    }

    #[test]
    fn a_second_training_is_refused_while_one_is_running() {
        let trainer = Trainer::default();
        let (end, ended) = channel::<()>();
        let (thread, join) = channel();
        let work = move |_: TrainObserver, _: &Arc<AtomicBool>| {
            let _ = ended.recv();
            Ok(())
        };
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            thread.send(std::thread::spawn(work)).unwrap();
            Ok(())
        };
        trainer.run(ann(), fresh(), work, spawn).unwrap();
        assert_eq!(trainer.status(&ann())["state"], "running");
        let error = trainer
            .run(ann(), fresh(), |_, _| Ok(()), |_| Ok(()))
            .unwrap_err();
        assert_eq!(error.status, StatusCode::CONFLICT);
        drop(end);
        join.recv().unwrap().join().unwrap();
        assert_eq!(trainer.status(&ann())["state"], "ended");
    }
}
