//! The base, once it is loaded, with the engine that decodes on it.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::api_error::ApiError;
use super::base_details::BaseDetails;
use super::engine::Engine;
use super::settings::ServeOptions;
use crate::Result;
use crate::bases;
use crate::home::Home;
use crate::llama::Model;
use crate::prompt::ChatTemplate;

/// The base, once it is loaded.
#[derive(Debug)]
pub struct LoadedBase {
    pub model: Arc<Model>,
    pub template: ChatTemplate,
    pub engine: Engine,
    /// The GGUF file, which users are trained on.
    #[cfg(feature = "train")]
    pub path: std::path::PathBuf,
    /// The name of the file, without folder and extension, or the one in another program's store.
    pub name: String,
    /// Facts about the file that clients are told.
    pub details: BaseDetails,
    /// The time at which it was loaded, in seconds since 1970.
    pub created: u64,
    /// The most tokens of a prompt and its answer together.
    pub n_ctx: usize,
}

impl LoadedBase {
    /// Loads the base in the file at `path`, which takes seconds.
    ///
    /// # Errors
    ///
    /// The file cannot be loaded, or the engine's thread cannot be started.
    pub fn load(home: &Home, path: &Path, options: &ServeOptions) -> Result<Self> {
        let model = Model::load(path, options.gpu_layers)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let n_ctx = options.settings.context.n_ctx.min(model.n_ctx_train());
        Ok(Self {
            template: ChatTemplate::of_model(&model)?,
            engine: Engine::start(home, &model, &options.settings)?,
            details: BaseDetails::of_file(home, path)?,
            model,
            #[cfg(feature = "train")]
            path: path.to_owned(),
            name: bases::title_of(path),
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
