//! Errors in Ollama's own form: `{"error": "text"}`.

use axum::Json;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::serve::api_error::ApiError;

/// The parts after `/api/` of Ollama's paths, those that this server does not have included.
const PATHS: [&str; 14] = [
    "blobs",
    "chat",
    "copy",
    "create",
    "delete",
    "embed",
    "embeddings",
    "generate",
    "ps",
    "pull",
    "push",
    "show",
    "tags",
    "version",
];

/// Puts the errors of Ollama's paths into its form. Status and headers stay.
pub async fn in_own_form(request: Request, next: Next) -> Response {
    let path = request.uri().path().strip_prefix("/api/");
    let name = path.and_then(|path| path.split('/').next());
    let is_ollamas = name.is_some_and(|name| PATHS.contains(&name));
    let response = next.run(request).await;
    let Some(error) = response
        .extensions()
        .get::<ApiError>()
        .filter(|_| is_ollamas)
    else {
        return response;
    };
    let body = Json(body(error)).into_response().into_body();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

/// The error, as an object of its own or as the last line of a stream.
pub fn body(error: &ApiError) -> Value {
    json!({ "error": error.message })
}
