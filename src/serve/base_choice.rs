//! The choice of the server's base: none yet, one that is being pulled or loaded, or the one that answers. Once a base is
//! loaded it stays.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::api_error::ApiError;
use super::loaded_base::LoadedBase;
use super::settings::ServeOptions;
use crate::bases::{self, Base};
use crate::home::Home;
use crate::{Error, Result};

/// The base that the server answers with, or how far it is.
#[derive(Debug)]
pub struct BaseChoice {
    home: Home,
    options: ServeOptions,
    loaded: OnceLock<LoadedBase>,
    state: Mutex<BaseState>,
    /// The thread that pulls or loads a base that the page has chosen.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The state of the base before it is loaded.
#[derive(Debug)]
enum BaseState {
    /// No base is chosen yet.
    NotChosen,
    Pulling(Pulling),
    /// The base of this name is being loaded, or it is loaded.
    Loading(String),
    /// The base of this name could not be pulled, for a reason.
    NotPulled(String, String),
    /// The base of this name could not be loaded, for a reason.
    NotLoaded(String, String),
}

/// A base that is being pulled.
#[derive(Clone, Debug)]
struct Pulling {
    base: Box<Base>,
    /// Bytes so far.
    n_bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl BaseChoice {
    /// No base is loaded yet; that of `options`, if it names one, is to be loaded by [`load_given`](Self::load_given).
    pub fn new(home: &Home, options: &ServeOptions) -> Self {
        let given = options.base.as_deref().map(bases::name_of);
        Self {
            home: home.clone(),
            options: options.clone(),
            loaded: OnceLock::new(),
            state: Mutex::new(given.map_or(BaseState::NotChosen, BaseState::Loading)),
            thread: Mutex::default(),
        }
    }

    /// Loads the base that the options name, if they name one. It takes seconds.
    ///
    /// # Errors
    ///
    /// The base's file cannot be loaded, or the engine's thread cannot be started.
    pub fn load_given(&self) -> Result<()> {
        match &self.options.base {
            Some(path) => self.load(path),
            None => Ok(()),
        }
    }

    fn load(&self, path: &Path) -> Result<()> {
        match LoadedBase::load(&self.home, path, &self.options) {
            Ok(base) => {
                // It is empty, since only one base is chosen at a time.
                let _ = self.loaded.set(base);
                Ok(())
            }
            Err(error) => {
                *self.state() = BaseState::NotLoaded(bases::name_of(path), error.to_string());
                Err(error)
            }
        }
    }

    /// Pulls `base`, if it is not there yet, and loads it, on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`ApiError::conflict`] when a base is chosen already; [`ApiError::unavailable`] when no thread can be started.
    pub fn choose(self: &Arc<Self>, base: Base) -> Result<(), ApiError> {
        let name = base.name.clone();
        if base.is_pulled(&self.home) {
            return self.choose_file(name, self.home.base(&base.file));
        }
        let pulling = Pulling {
            base: Box::new(base),
            n_bytes: Arc::default(),
            stop: Arc::default(),
        };
        let state = BaseState::Pulling(pulling.clone());
        self.begin(name, state, move |choice| choice.prepare(&pulling))
    }

    /// Loads the base of this name in the file at `path`, on a thread of its own.
    ///
    /// # Errors
    ///
    /// Those of [`choose`](Self::choose).
    pub fn choose_file(self: &Arc<Self>, name: String, path: PathBuf) -> Result<(), ApiError> {
        let state = BaseState::Loading(name.clone());
        // The state has the error.
        let load = move |choice: &Self| drop(choice.load(&path));
        self.begin(name, state, load)
    }

    /// Begins `work` on the base of this name, unless a base is chosen already.
    fn begin(
        self: &Arc<Self>,
        name: String,
        begun: BaseState,
        work: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<(), ApiError> {
        let mut state = self.state();
        match &*state {
            BaseState::Pulling(_) => {
                return Err(ApiError::conflict("another base is being pulled"));
            }
            BaseState::Loading(name) => {
                return Err(ApiError::conflict(format!(
                    "this server's base is {name}; start the server with -m to choose another"
                )));
            }
            BaseState::NotChosen | BaseState::NotPulled(..) | BaseState::NotLoaded(..) => {}
        }
        *state = begun;
        drop(state);
        let choice = Arc::clone(self);
        let thread = std::thread::Builder::new().name("base".into());
        let thread = thread.spawn(move || work(&choice));
        match thread {
            Ok(thread) => {
                let mut place = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
                *place = Some(thread);
                Ok(())
            }
            Err(error) => {
                let error = format!("cannot start a thread: {error}");
                *self.state() = BaseState::NotPulled(name, error.clone());
                Err(ApiError::unavailable(error))
            }
        }
    }

    /// Pulls and loads a base. The state says how that ends.
    fn prepare(&self, pulling: &Pulling) {
        let Pulling {
            base,
            n_bytes,
            stop,
        } = pulling;
        let progress = |bytes| {
            n_bytes.fetch_max(bytes, Ordering::Relaxed);
        };
        let pulled = bases::pull(base, &self.home, stop, Stdio::null, progress);
        let mut state = self.state();
        match pulled {
            Ok(_) if !stop.load(Ordering::Relaxed) => {
                *state = BaseState::Loading(base.name.clone());
            }
            Ok(_) | Err(Error::Interrupted) => {
                *state = BaseState::NotChosen;
                return;
            }
            Err(error) => {
                *state = BaseState::NotPulled(base.name.clone(), error.to_string());
                return;
            }
        }
        drop(state);
        // The state has the error.
        let _ = self.load(&self.home.base(&base.file));
    }

    /// Stops the pulling of the base of this name, if it is being pulled.
    pub fn stop_pulling(&self, name: &str) {
        match &*self.state() {
            BaseState::Pulling(pulling) if pulling.base.name == name => {
                pulling.stop.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Stops a pulling, and waits until its temporary files are gone.
    pub fn end(&self) {
        if let BaseState::Pulling(pulling) = &*self.state() {
            pulling.stop.store(true, Ordering::Relaxed);
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A thread that has panicked has said so on stderr.
            let _ = thread.join();
        }
    }

    /// The base.
    ///
    /// # Errors
    ///
    /// [`ApiError::loading`] until it is loaded; [`ApiError::no_base`] while none is chosen; [`ApiError::internal`] if it could
    /// not be loaded.
    pub fn loaded(&self) -> Result<&LoadedBase, ApiError> {
        if let Some(base) = self.loaded.get() {
            return Ok(base);
        }
        Err(match &*self.state() {
            BaseState::Pulling(_) | BaseState::Loading(_) => ApiError::loading(),
            BaseState::NotChosen | BaseState::NotPulled(..) => ApiError::no_base(),
            BaseState::NotLoaded(_, reason) => ApiError::internal(reason),
        })
    }

    /// The state as `/api/me` has it: `state`, `name` and `message`.
    pub fn summary(&self) -> Value {
        let is_loaded = self.loaded.get().is_some();
        let (state, name, message) = match &*self.state() {
            BaseState::NotChosen => ("none", None, None),
            BaseState::Pulling(pulling) => ("pulling", Some(pulling.base.name.clone()), None),
            BaseState::Loading(name) if is_loaded => ("ready", Some(name.clone()), None),
            BaseState::Loading(name) => ("loading", Some(name.clone()), None),
            BaseState::NotPulled(name, reason) | BaseState::NotLoaded(name, reason) => {
                ("failed", Some(name.clone()), Some(reason.clone()))
            }
        };
        json!({ "state": state, "name": name, "message": message })
    }

    /// The base that is being pulled, with its progress in bytes.
    pub fn pulling(&self) -> Option<Value> {
        let BaseState::Pulling(Pulling { base, n_bytes, .. }) = &*self.state() else {
            return None;
        };
        Some(json!({
            "name": base.name,
            "done_bytes": n_bytes.load(Ordering::Relaxed),
            "bytes": base.bytes,
        }))
    }

    fn state(&self) -> MutexGuard<'_, BaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
