//! The state that all requests share.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api_error::ApiError;
use super::auth::Access;
use super::engine::Engine;
use super::metrics::ServerMetrics;
use super::retriever_cache::RetrieverCache;
use super::settings::{RequestLimits, ServeOptions};
#[cfg(feature = "train")]
use super::trainer::Trainer;
use crate::Result;
use crate::home::Home;
use crate::llama::Model;
use crate::prompt::ChatTemplate;

/// The state that all requests share.
#[derive(Debug)]
pub struct App {
    pub(super) home: Home,
    pub(super) auth: Access,
    pub(super) limits: RequestLimits,
    pub(super) metrics: ServerMetrics,
    #[cfg(feature = "train")]
    pub(super) trainer: Trainer,
    pub(super) retrievers: RetrieverCache,
    pub(super) options: ServeOptions,
    /// Places for texts: those that are decoded at once, and those that may wait.
    places: Arc<Semaphore>,
    /// The base, or why it could not be loaded; empty while it is being loaded.
    base: OnceLock<Result<LoadedBase, String>>,
}

/// The base, once it is loaded.
#[derive(Debug)]
pub(super) struct LoadedBase {
    pub model: Arc<Model>,
    pub template: ChatTemplate,
    pub engine: Engine,
    /// The name of the base's file, without folder and extension.
    pub name: String,
    /// The time at which it was loaded, in seconds since 1970.
    pub created: u64,
    /// The most tokens of a prompt and its answer together.
    pub n_ctx: usize,
}

impl LoadedBase {
    /// Loads the base.
    ///
    /// # Errors
    ///
    /// The base's file cannot be loaded, or the engine's thread cannot be started.
    fn load(home: &Home, options: &ServeOptions) -> Result<Self> {
        let model = Model::load(&options.base, options.gpu_layers)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let name = options.base.file_stem().unwrap_or_default();
        let n_ctx = options.settings.context.n_ctx.min(model.n_ctx_train());
        Ok(Self {
            template: ChatTemplate::of_model(&model)?,
            engine: Engine::start(home, &model, &options.settings)?,
            model,
            name: name.to_string_lossy().into_owned(),
            created: now.map_or(0, |it| it.as_secs()),
            n_ctx: n_ctx as usize,
        })
    }

    /// Checks that a prompt, made from the field `param`, leaves room for an answer.
    ///
    /// # Errors
    ///
    /// [`ApiError::too_long`] if it does not.
    pub fn check_length(&self, param: &'static str, n_prompt: usize) -> Result<(), ApiError> {
        if n_prompt < self.n_ctx {
            return Ok(());
        }
        Err(ApiError::too_long(param, n_prompt, self.n_ctx))
    }
}

impl App {
    /// The state of a server whose base is not loaded yet.
    pub fn new(home: &Home, options: ServeOptions) -> Self {
        Self {
            home: home.clone(),
            auth: Access::new(home, options.open_webui_secret.clone()),
            limits: options.limits.clone(),
            metrics: ServerMetrics::default(),
            #[cfg(feature = "train")]
            trainer: Trainer::default(),
            retrievers: RetrieverCache::default(),
            places: Arc::new(Semaphore::new(n_places(&options))),
            base: OnceLock::new(),
            options,
        }
    }

    /// Loads the base, which takes seconds. To be called once.
    ///
    /// # Errors
    ///
    /// The base's file cannot be loaded, or the engine's thread cannot be started.
    pub fn load(&self) -> Result<()> {
        let (base, result) = match LoadedBase::load(&self.home, &self.options) {
            Ok(base) => (Ok(base), Ok(())),
            Err(error) => (Err(error.to_string()), Err(error)),
        };
        // It is empty, since nothing else sets it.
        let _ = self.base.set(base);
        result
    }

    /// Waits until all texts have ended. Meanwhile no other text gets a place.
    pub async fn texts_ended(&self) {
        // The semaphore is never closed.
        let _ = self
            .places
            .acquire_many(n_places(&self.options) as u32)
            .await;
    }

    /// The base.
    ///
    /// # Errors
    ///
    /// [`ApiError::loading`] until it is loaded; [`ApiError::internal`] if it could not be.
    pub(super) fn base(&self) -> Result<&LoadedBase, ApiError> {
        match self.base.get() {
            None => Err(ApiError::loading()),
            Some(Ok(base)) => Ok(base),
            Some(Err(error)) => Err(ApiError::internal(error)),
        }
    }

    /// A place for a text, until the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`ApiError::queue_full`] when all places are taken.
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let places = Arc::clone(&self.places);
        places
            .try_acquire_owned()
            .map_err(|_| ApiError::queue_full())
    }
}

/// Number of texts that may run or wait at a time.
fn n_places(options: &ServeOptions) -> usize {
    options.settings.parallel + options.limits.queue
}
