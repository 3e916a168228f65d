//! Handlers of `/api/me` and `/api/users`: who the caller is, and which users there are.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::aside::aside;
use super::auth::Caller;
use super::extract::JsonBody;
use crate::Result;
use crate::decode::Contrast;
use crate::home::{UserFolder, UserName};
use crate::profile::HistoryPart;

/// The caller, the server's base, and all users that the caller may use, trained or not.
pub async fn me(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    // The histories are read, to count their items.
    let (home, asked_by) = (app.home.clone(), caller.clone());
    let voices = aside(move || {
        let users = asked_by.known_users(&home)?;
        let voices: Result<Vec<_>> = users.iter().map(voice).collect();
        Ok(voices?)
    })
    .await?;
    let user = match &caller {
        Caller::Admin => None,
        Caller::User(name) => Some(name.as_str()),
    };
    Ok(Json(json!({
        "user": user,
        "is_admin": caller == Caller::Admin,
        "may_train": cfg!(feature = "train"),
        "base": app.base_choice.summary(),
        "voices": voices,
    })))
}

/// A user as `/api/me` lists them.
fn voice(user: &UserFolder) -> Result<Value> {
    let adapter = cope_convert::Adapter::read_gguf(&user.adapter()).ok();
    let contrast = adapter.as_ref().and_then(|adapter| adapter.contrast);
    Ok(json!({
        "name": user.name().as_str(),
        "is_trained": user.adapter().is_file(),
        "n_history": user.n_examples(HistoryPart::History)?,
        "n_held_out": user.n_examples(HistoryPart::HeldOut)?,
        "contrast": contrast.unwrap_or(Contrast::default().contrast()),
        // That of a request that gives none.
        "scale": 1.0,
    }))
}

/// A user to be created.
#[derive(Deserialize)]
pub struct NewUser {
    name: String,
}

/// Creates a user without texts.
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(NewUser { name }): JsonBody<NewUser>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.require_admin("create a user")?;
    let wrong = |error| ApiError::invalid_field("name", error);
    let name = UserName::new(&name).map_err(wrong)?;
    if app.home.user(name.clone()).is_ok() {
        return Err(ApiError::conflict(format!(
            "there is a user {name} already"
        )));
    }
    let user = app.home.create_user(name)?;
    let created = json!({ "name": user.name().as_str() });
    Ok((StatusCode::CREATED, Json(created)))
}
