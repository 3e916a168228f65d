//! Handlers of `/api/users/{name}/training`, by which the page starts, watches and stops a training.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::aside::aside;
use super::auth::Caller;
use super::extract::PathPart;
use crate::home::UserFolder;

/// The progress of a user's training, and the gain of the adapter that they have.
pub async fn status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    Ok(Json(status_of(&app, &user)))
}

/// Starts or resumes a user's training.
pub async fn start(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    aside(move || {
        let path = app.base()?.path.clone();
        let base = app.home.base_ref(&path)?;
        app.trainer.start(user.clone(), path, base)?;
        Ok(Json(status_of(&app, &user)))
    })
    .await
}

/// Stops a user's training.
pub async fn stop(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    app.trainer.stop(user.name());
    Ok(Json(status_of(&app, &user)))
}

fn status_of(app: &App, user: &UserFolder) -> Value {
    let mut status = app.trainer.status(user.name());
    let is_running = status["state"] == "running";
    status["gain"] = json!(gain(user).filter(|_| !is_running));
    status
}

/// How much likelier the user's texts are by their adapter than by the base, as a sentence.
fn gain(user: &UserFolder) -> Option<String> {
    // The training itself says what is wrong with a manifest.
    let manifest = user.manifest().ok().flatten()?;
    let gain = manifest.adapter?.calibration?.gain?;
    Some(gain.to_string())
}
