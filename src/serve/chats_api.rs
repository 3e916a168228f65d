//! Handlers of `/api/users/{name}/chats`: the chats that the user has saved, on the page or at the terminal.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::aside::aside;
use super::auth::Caller;
use super::extract::{JsonBody, PathPart, PathParts};
use crate::home::{ListedChat, SavedChat, SavedChats, UserName};

/// The chats of a user, the one that was saved last first.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    let chats = aside(move || Ok(user.chats().list()?)).await?;
    let chat = |it: &ListedChat| json!({ "id": it.name.as_str(), "title": it.title, "changed": it.changed_seconds() });
    Ok(Json(
        json!({ "chats": chats.iter().map(chat).collect::<Vec<_>>() }),
    ))
}

/// A chat of a user.
pub async fn load(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts(parts): PathParts,
) -> Result<Json<SavedChat>, ApiError> {
    let (chats, id) = chat(&app, &caller, &parts)?;
    Ok(Json(chats.load(&id)?))
}

/// Saves a chat of a user, in place of an earlier one of this id.
pub async fn save(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts(parts): PathParts,
    JsonBody(saved): JsonBody<SavedChat>,
) -> Result<Json<Value>, ApiError> {
    let (chats, id) = chat(&app, &caller, &parts)?;
    chats.save(&id, &saved)?;
    Ok(Json(json!({ "id": id.as_str() })))
}

/// Removes a chat of a user.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts(parts): PathParts,
) -> Result<Json<Value>, ApiError> {
    let (chats, id) = chat(&app, &caller, &parts)?;
    chats.remove(&id)?;
    Ok(Json(json!({})))
}

/// The saved chats of a user, and the id of one, which need not be there.
fn chat(
    app: &App,
    caller: &Caller,
    (name, id): &(String, String),
) -> Result<(SavedChats, UserName), ApiError> {
    let user = caller.user_folder(&app.home, name)?;
    let id = UserName::new(id).map_err(|error| ApiError::invalid_field("id", error))?;
    Ok((user.chats(), id))
}
