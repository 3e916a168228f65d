//! Handler of `/api/users/{name}/feedback`, by which the page tells what a person thinks of answers.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::auth::Caller;
use super::extract::{JsonBody, PathPart};
use crate::message::Message;
use crate::profile::feedback::{Feedback, Verdict};

/// Feedback on an answer: a verdict, or the text that the answer should have been.
#[derive(Deserialize)]
pub struct FeedbackRequest {
    prompt: Vec<Message>,
    response: String,
    verdict: Option<Verdict>,
    edited: Option<String>,
}

impl FeedbackRequest {
    /// The entries for the user's file of feedback.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when a text is empty, or there is not exactly one of verdict and edited text.
    fn feedback(self) -> Result<Vec<Feedback>, ApiError> {
        if self.prompt.is_empty() {
            return Err(ApiError::invalid_field("prompt", "the prompt is empty"));
        }
        if self.response.trim().is_empty() {
            return Err(ApiError::invalid_field("response", "the response is empty"));
        }
        match (self.verdict, self.edited) {
            (Some(verdict), None) => Ok(vec![Feedback {
                prompt: self.prompt,
                response: self.response,
                verdict,
            }]),
            (None, Some(edited)) if !edited.trim().is_empty() && edited != self.response => {
                Ok(Feedback::edit(&self.prompt, &self.response, &edited).into())
            }
            (None, Some(_)) => Err(ApiError::invalid_field(
                "edited",
                "the edited text is empty, or the same as the response",
            )),
            _ => Err(ApiError::invalid(
                "give either a verdict or an edited text, `verdict` or `edited`",
            )),
        }
    }
}

/// Stores a user's feedback on an answer.
pub async fn add(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
    JsonBody(request): JsonBody<FeedbackRequest>,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    let feedback = request.feedback()?;
    user.add_feedback(&feedback)?;
    Ok(Json(json!({ "kept": feedback.len() })))
}
