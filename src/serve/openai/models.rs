//! Handlers of `/v1/models`, and of llama-server's list of adapters and its description of the model.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::response::shortest;
use crate::decode::AnswerOptions;
use crate::home::{UserFolder, UserName};
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::auth::Caller;
use crate::serve::extract::PathPart;
use crate::serve::loaded_base::LoadedBase;
use crate::serve::voice_request::VoiceFields;

/// Answers with the base, and the users whose adapters the caller may use.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let users = caller.users(&app.home)?;
    let users = users.iter().map(|user| user.name());
    let models: Vec<Value> = std::iter::once(model(base, UserName::BASE, None))
        .chain(users.map(|name| model(base, name.as_str(), Some(name))))
        .collect();
    Ok(Json(json!({ "object": "list", "data": models })))
}

/// Answers with one model, by a name that a request could have.
pub async fn find(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let voice = VoiceFields::of_model(&name).resolve(&app.home, &caller, &base.name)?;
    Ok(Json(model(base, &name, voice.request.user.as_ref())))
}

fn model(base: &LoadedBase, id: &str, adapter: Option<&UserName>) -> Value {
    json!({
        "id": id,
        "object": "model",
        "created": base.created,
        "owned_by": "cope-llama",
        "meta": {
            "base": base.name,
            "adapter": adapter.map(UserName::as_str),
            "n_vocab": base.model.n_vocab(),
            "n_ctx": base.n_ctx,
            "n_ctx_train": base.model.n_ctx_train(),
        },
    })
}

/// Answers with what llama-server's clients ask about the model and the defaults of requests. The path of the base's file is
/// its name alone.
pub async fn props(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let sampling = AnswerOptions::recommended().sampling;
    let file = base.model.path().file_name().unwrap_or_default();
    let template = base.details.metadata.get("tokenizer.chat_template");
    Ok(Json(json!({
        "default_generation_settings": {
            "n_ctx": base.n_ctx,
            "params": {
                "n_predict": app.limits.n_predict,
                "seed": -1,
                "temperature": shortest(sampling.temperature),
                "top_k": sampling.top_k,
                "top_p": shortest(sampling.top_p),
                "min_p": shortest(sampling.min_p),
                "typical_p": shortest(sampling.typical),
                "repeat_penalty": shortest(sampling.repeat_penalty),
                "repeat_last_n": sampling.repeat_last_n,
                "presence_penalty": shortest(sampling.presence_penalty),
                "frequency_penalty": shortest(sampling.frequency_penalty),
            },
        },
        "total_slots": app.options.settings.parallel,
        "model_alias": UserName::BASE,
        "model_path": file.to_string_lossy(),
        "chat_template": template.cloned().unwrap_or_else(|| json!("")),
        "modalities": { "vision": false, "audio": false },
        "build_info": concat!("cope-llama-", env!("CARGO_PKG_VERSION")),
        "is_sleeping": false,
    })))
}

/// Answers with the adapters of those users; `lora` in a request names them by these numbers.
pub async fn adapters(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let users = caller.users(&app.home)?;
    let adapter = |(id, user): (usize, &UserFolder)| json!({ "id": id, "path": user.name().as_str(), "scale": 0.0 });
    Ok(Json(users.iter().enumerate().map(adapter).collect()))
}
