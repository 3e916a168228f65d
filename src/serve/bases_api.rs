//! Handlers of `/api/bases`, by which the page pulls and loads a base.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::auth::Caller;
use super::extract::{JsonBody, PathPart};
use crate::bases::{self, Base};

/// The bases that can be pulled, and the one that is being pulled.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    caller.require_admin("pull a base")?;
    Ok(Json(bases_of(&app)))
}

/// Whether the person agrees to the terms of a base.
#[derive(Deserialize)]
pub struct Agreement {
    #[serde(default)]
    agree: bool,
}

/// Pulls a base, if it is not there yet, and loads it.
pub async fn choose(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
    JsonBody(agreement): JsonBody<Agreement>,
) -> Result<Json<Value>, ApiError> {
    caller.require_admin("pull a base")?;
    let base = bases::find(&name)?;
    if let Some(terms) = &base.consent
        && !agreement.agree
        && !base.is_pulled(&app.home)
    {
        let message = format!("{name} needs your consent: {terms}");
        return Err(ApiError::invalid_field("agree", message));
    }
    app.base_choice.choose(base)?;
    Ok(Json(bases_of(&app)))
}

/// Stops the pulling of a base.
pub async fn stop(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    caller.require_admin("pull a base")?;
    let base = bases::find(&name)?;
    app.base_choice.stop_pulling(&base.name);
    Ok(Json(bases_of(&app)))
}

fn bases_of(app: &App) -> Value {
    let base = |base: &Base| {
        json!({
            "name": base.name,
            "title": base.title,
            "bytes": base.bytes,
            "licence": base.licence,
            "consent": base.consent,
            "is_pulled": base.is_pulled(&app.home),
        })
    };
    json!({
        "bases": bases::all().iter().map(base).collect::<Vec<_>>(),
        "pulling": app.base_choice.pulling(),
        "message": app.base_choice.summary()["message"],
    })
}
