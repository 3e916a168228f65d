//! The parts of a request that handlers take, each refused with an [`ApiError`].

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use serde::de::DeserializeOwned;

use super::api_error::ApiError;
use super::app::App;
use super::fields::{Fields, FromFields};

/// The body of a request, which is JSON.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let body = json_bytes(request, app).await?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| ApiError::invalid(format!("the body: {error}")))
    }
}

/// The body of a request, which is JSON and whose fields are all obeyed, harmless or refused.
pub struct JsonFields<T>(pub T);

impl<T: FromFields> FromRequest<Arc<App>> for JsonFields<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let body = json_bytes(request, app).await?;
        T::from_fields(Fields::of_body(&body)?).map(Self)
    }
}

/// The bytes of a body that says that it is JSON.
async fn json_bytes(request: Request, app: &Arc<App>) -> Result<Bytes, ApiError> {
    let kind = request.headers().get("content-type");
    let kind = kind.map(HeaderValue::as_bytes).unwrap_or_default();
    // A page of another site can send plain text without the browser's preflight, and JSON only with it.
    if !kind.to_ascii_lowercase().starts_with(b"application/json") {
        return Err(ApiError::invalid(
            "the body has to be JSON: send `Content-Type: application/json`",
        ));
    }
    let body = Bytes::from_request(request, app).await;
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_long(app.limits.body),
        _ => ApiError::invalid(rejection.body_text()),
    })
}

/// The one variable part of a path.
pub struct PathPart(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathPart {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(part) = Path::from_request_parts(parts, state).await?;
        Ok(Self(part))
    }
}

/// The two variable parts of a path.
pub struct PathParts(pub (String, String));

impl<S: Send + Sync> FromRequestParts<S> for PathParts {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(both) = Path::from_request_parts(parts, state).await?;
        Ok(Self(both))
    }
}

/// The fields after the `?` of an address.
pub struct QueryFields<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryFields<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(fields) = Query::from_request_parts(parts, state).await?;
        Ok(Self(fields))
    }
}
