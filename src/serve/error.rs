//! Errors, in the envelope of OpenAI's API.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::{Error, Fault};

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Of the response.
    pub status: StatusCode,
    /// For programs.
    pub kind: &'static str,
    /// What exactly, where there is a word for it.
    pub code: Option<&'static str>,
    /// The field of the request that is at fault.
    pub param: Option<&'static str>,
    /// Tokens of a prompt that is too long, and of the context.
    pub sizes: Option<(usize, usize)>,
    /// For people.
    pub message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl std::fmt::Display) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            sizes: None,
            message: message.to_string(),
        }
    }

    /// Something in the request cannot be used.
    pub fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field of the request cannot be used.
    pub fn invalid_field(param: &'static str, message: impl std::fmt::Display) -> Self {
        Self {
            param: Some(param),
            ..Self::invalid(message)
        }
    }

    /// The prompt leaves no room for an answer; with the sizes, in tokens, as llama-server gives them.
    pub fn too_long(param: &'static str, n_prompt: usize, n_ctx: usize) -> Self {
        let message = format!(
            "the prompt of {n_prompt} tokens exceeds the available context size of {n_ctx} tokens"
        );
        Self {
            kind: "exceed_context_size_error",
            code: Some("context_length_exceeded"),
            sizes: Some((n_prompt, n_ctx)),
            ..Self::invalid_field(param, message)
        }
    }

    /// Nobody has said who asks, or with a key that is nobody's.
    pub fn unauthorized() -> Self {
        let message =
            "a key is needed: send `Authorization: Bearer KEY`; `cope-llama user key` makes one";
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
        }
    }

    /// Who asks may not.
    pub fn forbidden(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// There is no such model, for all that who asks may know.
    pub fn no_model(name: &str) -> Self {
        Self {
            code: Some("model_not_found"),
            param: Some("model"),
            ..Self::not_found(format!("there is no model {name:?} for this key"))
        }
    }

    /// There is no such thing.
    pub fn not_found(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    /// It cannot be done beside what is under way.
    pub fn conflict(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict_error", message)
    }

    /// Too many ask.
    pub fn busy() -> Self {
        let message = "too many requests are waiting; try again in a moment";
        Self {
            code: Some("queue_full"),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    /// The server lacks something that it may have later: a loaded model, memory, a thread.
    pub fn unavailable(message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable_error",
            message,
        )
    }

    /// The base is still being loaded.
    pub fn loading() -> Self {
        Self::unavailable("the model is being loaded")
    }

    /// The server's fault, not the caller's.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match (error.fault(), &error) {
            (_, Error::Template(_)) => Self::invalid_field("messages", error),
            (_, Error::PromptTooLong { n_prompt, n_ctx }) => {
                Self::too_long("prompt", *n_prompt, *n_ctx)
            }
            (Fault::Input, _) => Self::invalid(error),
            (Fault::Missing, _) => Self::not_found(error),
            (Fault::Conflict, _) => Self::conflict(error),
            (Fault::Lack, _) => Self::unavailable(error),
            (Fault::Internal | Fault::Interrupted, _) => Self::internal(error),
        }
    }
}

impl ApiError {
    /// The envelope.
    pub fn body(&self) -> Value {
        let Self {
            kind,
            code,
            param,
            message,
            sizes,
            ..
        } = self;
        let mut error = json!({ "message": message, "type": kind, "param": param, "code": code });
        if let Some((n_prompt, n_ctx)) = sizes {
            error["n_prompt_tokens"] = json!(n_prompt);
            error["n_ctx"] = json!(n_ctx);
        }
        json!({ "error": error })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
