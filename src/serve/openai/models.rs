//! `/v1/models`, and llama-server's list of adapters.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::serve::app::{App, BASE};
use crate::serve::auth::Caller;
use crate::serve::error::ApiError;

/// The base, and the users whose adapters the caller may use.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let ready = app.ready()?;
    let model = |id: &str, adapter: Option<&str>| {
        json!({
            "id": id,
            "object": "model",
            "created": ready.created,
            "owned_by": "cope-llama",
            "meta": {
                "base": ready.name,
                "adapter": adapter,
                "n_vocab": ready.model.n_vocab(),
                "n_ctx": ready.n_ctx,
                "n_ctx_train": ready.model.n_ctx_train(),
            },
        })
    };
    let users = caller.users(&app.home)?;
    let users = users.iter().map(|user| user.name().as_str());
    let models: Vec<Value> = std::iter::once(model(BASE, None))
        .chain(users.map(|name| model(name, Some(name))))
        .collect();
    Ok(Json(json!({ "object": "list", "data": models })))
}

/// The adapters of those users, by their numbers.
pub async fn adapters(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let users = caller.users(&app.home)?;
    let adapter = |(id, user): (usize, &crate::home::UserFolder)| json!({ "id": id, "path": user.name().as_str(), "scale": 0.0 });
    Ok(Json(users.iter().enumerate().map(adapter).collect()))
}
