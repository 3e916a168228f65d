//! Handlers of `/tokenize` and `/detokenize`, in the form of llama-server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::llama::{Boundary, Special, Token};
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::extract::JsonFields;
use crate::serve::fields::{Field, Fields, FromFields};
use crate::serve::harmless::Harmless;

/// The body of `/tokenize`.
pub struct TokenizeRequest {
    content: String,
    /// Whether the tokens with which the model begins and ends a text are added.
    add_special: bool,
    /// Whether the texts of special tokens stand for these tokens.
    parse_special: bool,
    /// Whether each token comes with its text.
    with_pieces: bool,
}

impl FromFields for TokenizeRequest {
    fn from_fields(mut fields: Fields) -> Result<Self, ApiError> {
        let request = Self {
            content: fields.need("content")?.read()?,
            add_special: fields.read("add_special")?.unwrap_or_default(),
            parse_special: fields.read("parse_special")?.unwrap_or(true),
            with_pieces: fields.read("with_pieces")?.unwrap_or_default(),
        };
        fields.finish(&Harmless::TOKENS)?;
        Ok(request)
    }
}

/// Answers with the tokens of a text.
pub async fn tokenize(
    State(app): State<Arc<App>>,
    JsonFields(request): JsonFields<TokenizeRequest>,
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
pub struct DetokenizeRequest {
    tokens: Vec<i64>,
}

impl FromFields for DetokenizeRequest {
    fn from_fields(mut fields: Fields) -> Result<Self, ApiError> {
        let tokens = fields.need("tokens")?.items()?;
        let tokens = tokens.iter().map(Field::read).collect::<Result<_, _>>()?;
        fields.finish(&Harmless::TOKENS)?;
        Ok(Self { tokens })
    }
}

/// Answers with the text of some tokens.
pub async fn detokenize(
    State(app): State<Arc<App>>,
    JsonFields(request): JsonFields<DetokenizeRequest>,
) -> Result<Json<Value>, ApiError> {
    let model = &app.base()?.model;
    let known = |number: i64| {
        let token = Token::try_from(number).ok();
        token.filter(|token| model.contains(*token)).ok_or_else(|| {
            let message = format!("the model has no token {number}");
            ApiError::invalid_field("tokens", message)
        })
    };
    let mut bytes = Vec::new();
    for token in request.tokens {
        bytes.extend(model.token_bytes(known(token)?, Special::ByName));
    }
    Ok(Json(json!({ "content": String::from_utf8_lossy(&bytes) })))
}
