//! Handlers of `/api/tags`, `/api/show`, `/api/ps` and `/api/version`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer_lines::time;
use super::translation::{tagged, untagged};
use crate::home::{UserFolder, UserName};
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::auth::Caller;
use crate::serve::base_details::BaseDetails;
use crate::serve::extract::JsonFields;
use crate::serve::fields::{Fields, FromFields};
use crate::serve::harmless::Harmless;
use crate::serve::loaded_base::LoadedBase;
use crate::serve::voice_request::VoiceFields;

/// The version of Ollama whose API is followed. Clients compare it with the least that they need.
const OLLAMA_VERSION: &str = "0.34.1";

/// The time until which a loaded model stays loaded, for clients: the server never unloads its base.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A list of models.
#[derive(Serialize)]
pub struct ModelList {
    models: Vec<Value>,
}

/// Answers with the version of Ollama whose API is followed.
pub async fn version() -> Json<Value> {
    Json(json!({ "version": OLLAMA_VERSION, "cope_llama": env!("CARGO_PKG_VERSION") }))
}

/// Answers with the base, and the users whose adapters the caller may use.
pub async fn tags(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ModelList>, ApiError> {
    let base = app.base()?;
    let users = caller.users(&app.home)?;
    let users = users.iter().map(|user| listed(base, Some(user)));
    let models: Vec<Value> = std::iter::once(listed(base, None)).chain(users).collect();
    Ok(Json(ModelList { models }))
}

/// Answers with the models that are loaded, of which the base is always one.
pub async fn ps(State(app): State<Arc<App>>) -> Result<Json<ModelList>, ApiError> {
    let base = app.base()?;
    let mut model = listed(base, None);
    if let Some(model) = model.as_object_mut() {
        model.remove("modified_at");
        model.insert(
            "expires_at".into(),
            json!(time(SystemTime::now() + FOR_GOOD)),
        );
        model.insert("size_vram".into(), json!(0));
        model.insert("context_length".into(), json!(base.n_ctx));
    }
    let models = vec![model];
    Ok(Json(ModelList { models }))
}

/// The body of `/api/show`.
pub struct ShowBody {
    model: String,
}

impl FromFields for ShowBody {
    fn from_fields(mut fields: Fields) -> Result<Self, ApiError> {
        // Older clients call it `name`.
        let name = fields.take("name");
        let model = match fields.take("model").or(name) {
            Some(model) => model,
            None => fields.need("model")?,
        };
        let body = Self {
            model: model.read()?,
        };
        fields.finish(&Harmless::OLLAMA_SHOW)?;
        Ok(body)
    }
}

/// Answers with the details of a model.
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(body): JsonFields<ShowBody>,
) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let voice = VoiceFields::of_model(untagged(&body.model));
    let voice = voice.resolve(&app.home, &caller, &base.name)?;
    let user = voice.request.user.map(|user| app.home.user(user));
    let listed = listed(base, user.transpose()?.as_ref());
    let mut capabilities = vec!["completion"];
    if base.template.offers_thinking()? {
        capabilities.push("thinking");
    }
    let mut model_info = base.details.metadata.clone();
    let n_weights = json!(base.details.n_weights);
    model_info.insert("general.parameter_count".into(), n_weights);
    Ok(Json(json!({
        "modified_at": listed["modified_at"],
        "details": listed["details"],
        "model_info": model_info,
        "capabilities": capabilities,
    })))
}

/// A model as a list has it: the base, or with the adapter of `user`.
fn listed(base: &LoadedBase, user: Option<&UserFolder>) -> Value {
    let details = &base.details;
    let adapter = user.and_then(|user| std::fs::metadata(user.adapter()).ok());
    let modified = adapter.as_ref().and_then(|file| file.modified().ok());
    let name = tagged(user.map_or(UserName::BASE, |user| user.name().as_str()));
    let parent = user.map_or("", |_| UserName::BASE);
    json!({
        "name": name,
        "model": name,
        "modified_at": time(modified.unwrap_or(details.modified)),
        "size": details.n_bytes + adapter.map_or(0, |file| file.len()),
        "digest": details.sha256,
        "details": {
            "parent_model": parent,
            "format": "gguf",
            "family": details.family,
            "families": [details.family],
            "parameter_size": parameter_size(details),
            "quantization_level": details.weight_type,
        },
    })
}

/// The number of weights as Ollama writes it, such as `134.52M` or `8.0B`.
fn parameter_size(details: &BaseDetails) -> String {
    let n = details.n_weights as f64;
    if n >= 1e9 {
        format!("{:.1}B", n / 1e9)
    } else if n >= 1e6 {
        format!("{:.2}M", n / 1e6)
    } else {
        format!("{:.2}K", n / 1e3)
    }
}
