//! What the page asks for beside answers: whose voices there are, histories, verdicts.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::App;
use super::auth::Caller;
use super::body::parse;
use super::error::ApiError;
use crate::decode::Contrast;
use crate::home::{UserFolder, UserName};
use crate::message::Message;
use crate::profile::feedback::{Feedback, Verdict, Verdicts};

/// The most items of a history that are given at a time.
const MAX_ITEMS: usize = 200;

/// Who asks, and whose voices they may use.
pub async fn me(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let voice = |user: &UserFolder| {
        let adapter = cope_convert::Adapter::read_gguf(&user.adapter()).ok();
        let contrast = adapter.and_then(|adapter| adapter.contrast);
        json!({
            "name": user.name().as_str(),
            "contrast": contrast.unwrap_or(Contrast::default().contrast()),
        })
    };
    let voices: Vec<Value> = caller.users(&app.home)?.iter().map(voice).collect();
    let name = match &caller {
        Caller::Admin => None,
        Caller::User(name) => Some(name.as_str()),
    };
    Ok(Json(json!({ "user": name, "voices": voices })))
}

/// Which items of a history.
#[derive(Deserialize)]
pub struct Items {
    #[serde(default)]
    from: usize,
    #[serde(default)]
    n: usize,
}

/// A user's history, newest first.
pub async fn history(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(items): Query<Items>,
) -> Result<Json<Value>, ApiError> {
    let user = user(&app, &caller, &name)?;
    let profile = user.profile()?;
    let verdicts = Verdicts::from_feedback(&user.feedback()?);
    let newest = profile
        .history
        .iter()
        .rev()
        .skip(items.from)
        .take(items.n.min(MAX_ITEMS));
    let item = |example: &crate::profile::Example| json!({ "prompt": example.prompt, "response": example.response });
    Ok(Json(json!({
        "items": newest.map(item).collect::<Vec<_>>(),
        "total": profile.history.len(),
        "held_out": profile.held_out.len(),
        "pairs": verdicts.pairs().len(),
    })))
}

/// What is said of an answer: a verdict, or what it should have been.
#[derive(Deserialize)]
struct FeedbackBody {
    prompt: Vec<Message>,
    response: String,
    verdict: Option<Verdict>,
    edited: Option<String>,
}

/// Keeps what the user says of an answer.
pub async fn feedback(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let user = user(&app, &caller, &name)?;
    let said: FeedbackBody = parse(&headers, &body)?;
    if said.prompt.is_empty() || said.response.trim().is_empty() {
        return Err(ApiError::invalid("there is no prompt, or no response"));
    }
    let feedback = match (said.verdict, said.edited) {
        (Some(verdict), None) => vec![Feedback {
            prompt: said.prompt,
            response: said.response,
            verdict,
        }],
        (None, Some(edited)) if !edited.trim().is_empty() && edited != said.response => {
            Feedback::edit(&said.prompt, &said.response, &edited).into()
        }
        _ => {
            return Err(ApiError::invalid(
                "there is neither a verdict nor another text",
            ));
        }
    };
    user.add_feedback(&feedback)?;
    Ok(Json(json!({ "kept": feedback.len() })))
}

/// The folder of a user that the caller may use; that of another is not there.
pub(super) fn user(app: &App, caller: &Caller, name: &str) -> Result<UserFolder, ApiError> {
    let name = UserName::new(name).ok().filter(|name| caller.may_use(name));
    let folder = name.and_then(|name| app.home.user(name).ok());
    folder.ok_or_else(|| ApiError::not_found("there is no such user for this key"))
}
