//! Handlers of `/v1/models`, and of llama-server's list of adapters.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::home::{UserFolder, UserName};
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::auth::Caller;

/// Answers with the base, and the users whose adapters the caller may use.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let model = |id: &str, adapter: Option<&str>| {
        json!({
            "id": id,
            "object": "model",
            "created": base.created,
            "owned_by": "cope-llama",
            "meta": {
                "base": base.name,
                "adapter": adapter,
                "n_vocab": base.model.n_vocab(),
                "n_ctx": base.n_ctx,
                "n_ctx_train": base.model.n_ctx_train(),
            },
        })
    };
    let users = caller.users(&app.home)?;
    let users = users.iter().map(|user| user.name().as_str());
    let models: Vec<Value> = std::iter::once(model(UserName::BASE, None))
        .chain(users.map(|name| model(name, Some(name))))
        .collect();
    Ok(Json(json!({ "object": "list", "data": models })))
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
