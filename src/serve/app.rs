//! The state that all requests share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api_error::ApiError;
use super::auth::Access;
use super::base_choice::BaseChoice;
use super::loaded_base::LoadedBase;
use super::metrics::ServerMetrics;
use super::retriever_cache::RetrieverCache;
use super::settings::{RequestLimits, ServeOptions};
#[cfg(feature = "train")]
use super::trainer::Trainer;
use super::upload_store::UploadStore;
use crate::home::Home;

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
    pub(super) uploads: Arc<UploadStore>,
    pub(super) options: ServeOptions,
    /// Places for texts: those that are decoded at once, and those that may wait.
    places: Arc<Semaphore>,
    pub(super) base_choice: Arc<BaseChoice>,
}

impl App {
    /// The state of a server whose base is not loaded yet.
    pub fn new(home: &Home, options: ServeOptions) -> Self {
        let is_public = !options.address.ip().is_loopback();
        Self {
            home: home.clone(),
            auth: Access::new(home, options.open_webui_secret.clone(), is_public),
            limits: options.limits.clone(),
            metrics: ServerMetrics::default(),
            #[cfg(feature = "train")]
            trainer: Trainer::default(),
            retrievers: RetrieverCache::default(),
            uploads: Arc::default(),
            places: Arc::new(Semaphore::new(n_places(&options))),
            base_choice: Arc::new(BaseChoice::new(home, &options)),
            options,
        }
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
    /// Those of [`BaseChoice::loaded`].
    pub(super) fn base(&self) -> Result<&LoadedBase, ApiError> {
        self.base_choice.loaded()
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
