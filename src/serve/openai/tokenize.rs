//! Handlers of `/tokenize` and `/detokenize`, in the form of llama-server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::llama::{Boundary, Special, Token};
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::extract::JsonBody;

/// The body of `/tokenize`.
#[derive(Deserialize)]
pub struct TokenizeRequest {
    content: String,
    /// Whether the tokens with which the model begins and ends a text are added.
    #[serde(default)]
    add_special: bool,
    /// Whether the texts of special tokens stand for these tokens.
    #[serde(default = "yes")]
    parse_special: bool,
    /// Whether each token comes with its text.
    #[serde(default)]
    with_pieces: bool,
}

fn yes() -> bool {
    true
}

/// Answers with the tokens of a text.
pub async fn tokenize(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<TokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let model = &app.base()?.model;
    let boundary = if request.add_special {
        Boundary::Add
    } else {
        Boundary::Omit
    };
    let special = if request.parse_special {
        Special::ByName
    } else {
        Special::Ignored
    };
    let tokens = model.tokenize(&request.content, boundary, special)?;
    let piece = |token: &Token| {
        let bytes = model.token_bytes(*token, Special::ByName);
        let piece = match String::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(error) => json!(error.into_bytes()),
        };
        json!({ "id": token, "piece": piece })
    };
    let tokens = if request.with_pieces {
        tokens.iter().map(piece).collect()
    } else {
        json!(tokens)
    };
    Ok(Json(json!({ "tokens": tokens })))
}

/// The body of `/detokenize`.
#[derive(Deserialize)]
pub struct DetokenizeRequest {
    tokens: Vec<Token>,
}

/// Answers with the text of some tokens.
pub async fn detokenize(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<DetokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let model = &app.base()?.model;
    if let Some(token) = request.tokens.iter().find(|token| !model.contains(**token)) {
        let message = format!("the model has no token {token}");
        return Err(ApiError::invalid_field("tokens", message));
    }
    let bytes = request
        .tokens
        .iter()
        .flat_map(|token| model.token_bytes(*token, Special::ByName));
    let bytes: Vec<u8> = bytes.collect();
    Ok(Json(json!({ "content": String::from_utf8_lossy(&bytes) })))
}
