//! The parts of a request that handlers take, each refused with an [`ApiError`].

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::task::{JoinError, spawn_blocking};

use super::api_error::ApiError;
use super::fields::{Fields, FromFields};

/// The body of a request, which is JSON.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = json_bytes(request, state).await?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| ApiError::invalid(format!("the body: {error}")))
    }
}

/// The body of a request, which is JSON and whose fields are all obeyed, harmless or refused.
pub struct JsonFields<T>(pub T);

impl<S: Send + Sync, T: FromFields> FromRequest<S> for JsonFields<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = json_bytes(request, state).await?;
        T::from_fields(Fields::of_body(&body)?).map(Self)
    }
}

/// Does work that can take a while, such as reading a history, during which other requests go on.
///
/// # Errors
///
/// Those of `work`; [`ApiError::panicked`] when it panics.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = spawn_blocking(work).await;
    done.map_err(|_: JoinError| ApiError::panicked())?
}

/// The bytes of a body that says that it is JSON.
async fn json_bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let kind = request.headers().get("content-type");
    let kind = kind.map(HeaderValue::as_bytes).unwrap_or_default();
    // A page of another site can send plain text without the browser's preflight, and JSON only with it.
    if !kind.to_ascii_lowercase().starts_with(b"application/json") {
        return Err(ApiError::invalid(
            "the body has to be JSON: send `Content-Type: application/json`",
        ));
    }
    Ok(Bytes::from_request(request, state).await?)
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

/// The fields after the `?` of an address.
pub struct QueryFields<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryFields<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(fields) = Query::from_request_parts(parts, state).await?;
        Ok(Self(fields))
    }
}
