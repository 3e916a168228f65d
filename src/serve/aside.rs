//! Work beside the requests.

use tokio::task::{JoinError, spawn_blocking};

use super::api_error::ApiError;

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
