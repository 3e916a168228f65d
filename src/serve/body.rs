//! The bodies of requests.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The JSON of a request.
pub fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, ApiError> {
    let kind = headers.get("content-type").map(HeaderValue::as_bytes);
    let is_json =
        kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"application/json"));
    // A page of another site can send a text without being asked whether it may, and no JSON.
    if !is_json {
        return Err(ApiError::invalid(
            "the body has to be JSON: send `Content-Type: application/json`",
        ));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}
