//! What all requests share.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::{Access, Caller};
use super::engine::Engine;
use super::error::ApiError;
use super::metrics::ServerMetrics;
use super::model_cache::VoiceRequest;
use super::openai::options::CommonRequest;
use super::settings::{RequestLimits, ServeOptions};
#[cfg(feature = "train")]
use super::trainer::Trainer;
use crate::Result;
use crate::decode::ArmKind;
use crate::home::{Home, UserName};
use crate::llama::Model;
use crate::prompt::ChatTemplate;

/// The base's name beside those of users.
pub const BASE: &str = "base";

/// The most by which an adapter's effect is multiplied.
const MAX_SCALE: f32 = 4.0;

/// What all requests share.
#[derive(Debug)]
pub struct App {
    pub(super) home: Home,
    pub(super) auth: Access,
    pub(super) limits: RequestLimits,
    pub(super) metrics: ServerMetrics,
    #[cfg(feature = "train")]
    pub(super) trainer: Trainer,
    pub(super) options: ServeOptions,
    places: Arc<Semaphore>,
    ready: OnceLock<Result<Ready, String>>,
}

/// What is there once the base is loaded.
#[derive(Debug)]
pub(super) struct Ready {
    pub model: Arc<Model>,
    pub template: ChatTemplate,
    pub engine: Engine,
    /// The base's file, without folder and extension.
    pub name: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Tokens of a text.
    pub n_ctx: usize,
}

impl Ready {
    /// That a prompt, made of the field `param`, leaves room for an answer.
    pub fn check_length(&self, param: &'static str, n_prompt: usize) -> Result<(), ApiError> {
        if n_prompt < self.n_ctx {
            return Ok(());
        }
        Err(ApiError::too_long(param, n_prompt, self.n_ctx))
    }
}

impl App {
    pub fn new(home: &Home, options: ServeOptions) -> Self {
        let n_places = options.settings.parallel + options.limits.queue;
        Self {
            home: home.clone(),
            auth: Access::new(home, options.open_webui_secret.clone()),
            limits: options.limits.clone(),
            metrics: ServerMetrics::default(),
            #[cfg(feature = "train")]
            trainer: Trainer::default(),
            places: Arc::new(Semaphore::new(n_places)),
            ready: OnceLock::new(),
            options,
        }
    }

    /// Loads the base, which takes a while.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn load(&self) -> Result<()> {
        let options = &self.options;
        let load = || -> Result<Ready> {
            let model = Model::load(&options.base, options.gpu_layers)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let name = options.base.file_stem().unwrap_or_default();
            let n_ctx = options.settings.context.n_ctx.min(model.n_ctx_train());
            Ok(Ready {
                template: ChatTemplate::of_model(&model)?,
                engine: Engine::start(&self.home, &model, &options.settings)?,
                model,
                name: name.to_string_lossy().into_owned(),
                created: now.map_or(0, |it| it.as_secs()),
                n_ctx: n_ctx as usize,
            })
        };
        let (ready, result) = match load() {
            Ok(ready) => (Ok(ready), Ok(())),
            Err(error) => (Err(error.to_string()), Err(error)),
        };
        // Nobody else sets it.
        let _ = self.ready.set(ready);
        result
    }

    /// What there is once the base is loaded.
    pub(super) fn ready(&self) -> Result<&Ready, ApiError> {
        match self.ready.get() {
            None => Err(ApiError::loading()),
            Some(Ok(ready)) => Ok(ready),
            Some(Err(error)) => Err(ApiError::internal(error)),
        }
    }

    /// A place among the requests, until it is dropped.
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let places = Arc::clone(&self.places);
        places.try_acquire_owned().map_err(|_| ApiError::busy())
    }

    /// Whose voice a request is for, and how the client names it.
    ///
    /// The user is named by `model` (`alice`, or `base:alice`), else by `lora`, else by `user`; a user's key without any of
    /// these is for that user.
    pub(super) fn voice(
        &self,
        ready: &Ready,
        caller: &Caller,
        request: &CommonRequest,
    ) -> Result<(String, VoiceRequest), ApiError> {
        let (named, user, scale) = self.user(ready, caller, request)?;
        let arm = match request.arm {
            Some(arm) => arm,
            None if user.is_some() => ArmKind::Cope,
            None => ArmKind::Base,
        };
        if user.is_none() && arm != ArmKind::Base {
            return Err(ApiError::invalid_field(
                "arm",
                "the base alone has no other voice: name a user as the model",
            ));
        }
        let voice = VoiceRequest {
            user,
            scale,
            arm,
            contrast: request.contrast,
            plausibility: request.plausibility,
        };
        Ok((named, voice))
    }

    fn user(
        &self,
        ready: &Ready,
        caller: &Caller,
        request: &CommonRequest,
    ) -> Result<(String, Option<UserName>, f32), ApiError> {
        let users = caller.users(&self.home)?;
        let own = |name: &str| {
            users
                .iter()
                .map(|user| user.name())
                .find(|it| it.as_str() == name)
        };
        let named = request.model.as_deref().unwrap_or_default();
        let is_base = |name: &str| name == BASE || name == ready.name;
        let scaled = |user: Option<&UserName>, scale: f32| {
            let name = user.map_or(BASE, UserName::as_str);
            let named = if named.is_empty() { name } else { named };
            Ok((named.to_owned(), user.cloned(), scale))
        };
        let answer = |user| scaled(user, 1.0);
        if let Some((_, name)) = named.split_once(':').filter(|(base, _)| is_base(base)) {
            return match own(name) {
                Some(user) => answer(Some(user)),
                None => Err(ApiError::no_model(named)),
            };
        }
        if !named.is_empty() && !is_base(named) {
            return match own(named) {
                Some(user) => answer(Some(user)),
                None => Err(ApiError::no_model(named)),
            };
        }
        if let Some(lora) = &request.lora {
            let mut wanted = lora.iter().filter(|lora| lora.scale != 0.0);
            return match (wanted.next(), wanted.next()) {
                (None, _) => answer(None),
                (Some(lora), None) => match users.get(lora.id) {
                    Some(user) if (0.0..=MAX_SCALE).contains(&lora.scale) => {
                        scaled(Some(user.name()), lora.scale)
                    }
                    Some(_) => Err(ApiError::invalid_field(
                        "lora",
                        format!("an adapter's scale is 0 to {MAX_SCALE}"),
                    )),
                    None => Err(ApiError::invalid_field(
                        "lora",
                        "there is no adapter of that number for this key",
                    )),
                },
                _ => Err(ApiError::invalid_field("lora", "one adapter at a time")),
            };
        }
        // Clients send names of their own here: one that is nobody's is nobody.
        if let Some(user) = request.user.as_deref().and_then(own) {
            return answer(Some(user));
        }
        match caller {
            Caller::User(name) if named.is_empty() => answer(own(name.as_str())),
            _ => answer(None),
        }
    }
}
