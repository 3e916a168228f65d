//! `/tokenize` and `/detokenize`, as llama-server has them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::llama::{Boundary, Special, Token};
use crate::serve::app::App;
use crate::serve::body::parse;
use crate::serve::error::ApiError;

#[derive(Deserialize)]
struct Tokenize {
    content: String,
    #[serde(default)]
    add_special: bool,
    #[serde(default = "yes")]
    parse_special: bool,
    #[serde(default)]
    with_pieces: bool,
}

fn yes() -> bool {
    true
}

/// The tokens of a text.
pub async fn tokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let model = &app.ready()?.model;
    let request: Tokenize = parse(&headers, &body)?;
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

#[derive(Deserialize)]
struct Detokenize {
    tokens: Vec<Token>,
}

/// The text of some tokens.
pub async fn detokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let model = &app.ready()?.model;
    let request: Detokenize = parse(&headers, &body)?;
    if let Some(token) = request.tokens.iter().find(|token| !model.contains(**token)) {
        let what = format!("the model has no token {token}");
        return Err(ApiError::invalid_field("tokens", what));
    }
    let bytes = request
        .tokens
        .iter()
        .flat_map(|token| model.token_bytes(*token, Special::ByName));
    let bytes: Vec<u8> = bytes.collect();
    Ok(Json(json!({ "content": String::from_utf8_lossy(&bytes) })))
}
