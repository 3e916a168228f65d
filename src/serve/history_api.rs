//! Handlers of `/api/users/{name}/history`, by which the page shows a user's texts, and edits and removes them.

use std::iter;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::aside::aside;
use super::auth::Caller;
use super::extract::{JsonBody, PathPart, PathParts, QueryFields};
use super::upload_preview::counts;
use crate::home::{Home, UserFolder};
use crate::profile::feedback::Verdicts;
use crate::profile::{Example, HistoryPart, Masked, Masking};

/// The most items of a history in one response.
const MAX_ITEMS: usize = 200;

/// A range of the items of a part of a history.
#[derive(Deserialize)]
pub struct ItemRange {
    /// The number of items to leave out.
    #[serde(default)]
    from: usize,
    /// The number of items to give, at most [`MAX_ITEMS`].
    #[serde(default)]
    n: usize,
    /// The part; by default the history itself.
    #[serde(default)]
    part: HistoryPart,
    /// A text that the items hold, in upper or lower case; empty for all items.
    #[serde(default)]
    matching: String,
}

/// A user's texts, the newest first.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
    QueryFields(range): QueryFields<ItemRange>,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    aside(move || Ok(Json(items(&user, &range)?))).await
}

fn items(user: &UserFolder, range: &ItemRange) -> crate::Result<Value> {
    let profile = user.profile()?;
    let verdicts = Verdicts::from_feedback(&user.feedback()?);
    let n_held_out = profile.held_out.len();
    let mut examples = match range.part {
        HistoryPart::History => profile.history,
        HistoryPart::HeldOut => profile.held_out,
    };
    if !range.matching.is_empty() {
        examples.retain(|example| example.contains(&range.matching));
    }
    let newest = examples.iter().rev().skip(range.from);
    let newest = newest.take(range.n.min(MAX_ITEMS));
    let item =
        |it: &Example| json!({ "id": it.id(), "prompt": it.prompt, "response": it.response });
    Ok(json!({
        "items": newest.map(item).collect::<Vec<_>>(),
        "total": examples.len(),
        "held_out": n_held_out,
        "pairs": verdicts.pairs().len(),
    }))
}

/// The text that an item should have.
#[derive(Deserialize)]
pub struct EditedItem {
    response: String,
}

/// Replaces the response of an item. Secrets in it are masked, as those of an import are.
pub async fn edit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts((name, item)): PathParts,
    JsonBody(EditedItem { response }): JsonBody<EditedItem>,
) -> Result<Json<Value>, ApiError> {
    if response.trim().is_empty() {
        return Err(ApiError::invalid_field("response", "the text is empty"));
    }
    let user = caller.user_folder(&app.home, &name)?;
    aside(move || {
        let (mut response, mut masked) = (response, Masked::new());
        Masking::default().mask(iter::once(&mut response), &mut masked);
        let edited = |example: &Example| {
            Some(Example {
                response: response.clone(),
                ..example.clone()
            })
        };
        let consequence = change(&app.home, &caller, &user, &item, edited)?;
        Ok(Json(
            json!({ "consequence": consequence, "masked": counts(&masked) }),
        ))
    })
    .await
}

/// Removes an item.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts((name, item)): PathParts,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    aside(move || {
        let consequence = change(&app.home, &caller, &user, &item, |_| None)?;
        Ok(Json(json!({ "consequence": consequence })))
    })
    .await
}

/// Replaces the item of this id by what `become_of` makes of it, and says what still knows the text that it had.
fn change(
    home: &Home,
    caller: &Caller,
    user: &UserFolder,
    id: &str,
    become_of: impl Fn(&Example) -> Option<Example>,
) -> Result<Option<String>, ApiError> {
    let lock = user.lock()?;
    let mut is_found = false;
    user.change_examples(&lock, |example| {
        if example.id() != id {
            return Some(example.clone());
        }
        is_found = true;
        become_of(example)
    })?;
    if !is_found {
        return Err(ApiError::not_found(
            "there is no such item; it may have been changed",
        ));
    }
    Ok(consequence(home, caller, user)?)
}

/// A sentence about the adapters that have learnt a text of the user's, as far as the caller may know of them.
fn consequence(home: &Home, caller: &Caller, user: &UserFolder) -> crate::Result<Option<String>> {
    let name = user.name();
    let mut sentences = Vec::new();
    if user.adapter().exists() {
        sentences.push(format!(
            "{name}'s adapter has learnt the text; the next training makes one that has not."
        ));
    }
    for other in home.started_from(name)? {
        if caller.may_use(&other) {
            sentences.push(format!(
                "{other}'s adapter started from {name}'s and keeps what it learnt from it."
            ));
        }
    }
    Ok((!sentences.is_empty()).then(|| sentences.join(" ")))
}
