//! Handlers of `/api/users/{name}/training`, by which the page starts, watches and stops a training.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::Value;

use super::api_error::ApiError;
use super::app::App;
use super::auth::Caller;
use super::extract::PathPart;

/// The progress of a user's training.
pub async fn status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    Ok(Json(app.trainer.status(user.name())))
}

/// Starts or resumes a user's training.
pub async fn start(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    let path = app.base()?.path.clone();
    let base = app.home.base_ref(&path)?;
    let name = user.name().clone();
    app.trainer.start(user, path, base)?;
    Ok(Json(app.trainer.status(&name)))
}

/// Stops a user's training.
pub async fn stop(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    app.trainer.stop(user.name());
    Ok(Json(app.trainer.status(user.name())))
}
