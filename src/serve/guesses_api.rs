//! Handlers of `/api/users/{name}/guesses`: the page shows a held-out text beside the adapter's answer to the same prompt, and
//! the person guesses which one is theirs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::aside::aside;
use super::auth::Caller;
use super::extract::{JsonBody, PathPart};
use crate::Result;
use crate::home::{Guess, GuessScore, UserFolder};
use crate::profile::Example;

/// The digits of an adapter's SHA-256 by which the page names it.
const SHORT: usize = 12;

/// The next text to guess about, and the scores so far.
pub async fn next(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    aside(move || Ok(Json(state(&user)?))).await
}

/// A person's guess.
#[derive(Deserialize)]
pub struct GuessRequest {
    /// The id of the held-out example.
    id: String,
    is_right: bool,
}

/// Stores a guess about the answer of the present adapter. A second guess about the same text does not count.
pub async fn add(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
    JsonBody(request): JsonBody<GuessRequest>,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    aside(move || {
        let adapter = adapter(&user)?;
        let adapter = adapter.ok_or_else(|| ApiError::conflict("the user is not trained"))?;
        let held_out = user.profile()?.held_out;
        if !held_out.iter().any(|example| example.id() == request.id) {
            return Err(ApiError::not_found("there is no such held-out text"));
        }
        let is_same = |it: &Guess| it.adapter == adapter && it.item == request.id;
        if !user.guesses()?.iter().any(is_same) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            user.add_guess(&Guess {
                adapter,
                item: request.id,
                is_right: request.is_right,
                time: now.map_or(0, |it| it.as_secs()),
            })?;
        }
        Ok(Json(state(&user)?))
    })
    .await
}

/// The SHA-256 of the user's adapter; `None` if the user is not trained.
fn adapter(user: &UserFolder) -> Result<Option<String>> {
    let adapter = user.adapter();
    let is_trained = adapter.is_file();
    Ok(is_trained
        .then(|| cope_convert::sha256(&adapter))
        .transpose()?)
}

fn state(user: &UserFolder) -> Result<Value> {
    let (adapter, held_out, guesses) = (adapter(user)?, user.profile()?.held_out, user.guesses()?);
    let next = adapter.and_then(|adapter| {
        let is_guessed = |id: &str| {
            let mut guesses = guesses.iter();
            guesses.any(|it| it.adapter == adapter && it.item == id)
        };
        held_out.iter().find(|example| !is_guessed(&example.id()))
    });
    let next =
        next.map(|it: &Example| json!({ "id": it.id(), "prompt": it.prompt, "text": it.response }));
    let score = |it: &GuessScore| json!({ "adapter": &it.adapter[..SHORT.min(it.adapter.len())], "date": it.time, "n": it.n, "right": it.n_right });
    let scores = GuessScore::of(&guesses);
    Ok(json!({
        "next": next,
        "n_held_out": held_out.len(),
        "scores": scores.iter().map(score).collect::<Vec<_>>(),
    }))
}
