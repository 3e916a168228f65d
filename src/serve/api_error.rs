//! Errors as clients read them: an HTTP status by the kind of the error, in the envelope of OpenAI's API.
//!
//! | status | fault | `type` |
//! |---|---|---|
//! | 400 | the request cannot be used; `param` names the field, where one is known | `invalid_request_error` |
//! | 401 | no key, or an unknown one | `authentication_error` |
//! | 403 | the caller may not do this | `permission_error` |
//! | 404 | there is no such model, user or path, as far as this key may know | `not_found_error` |
//! | 409 | other work is in the way | `conflict_error` |
//! | 413 | the body is too long | `invalid_request_error` |
//! | 429 | the queue is full; `Retry-After` says when to come back | `rate_limit_error` |
//! | 500 | the server, a file of its own or a library has failed | `server_error` |
//! | 503 | the base is still being loaded, or memory or a thread is lacking; with `Retry-After` | `unavailable_error` |

use std::borrow::Cow;
use std::fmt::Display;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cope_contrast::Error as ContrastError;
use serde_json::{Value, json};

use crate::error::Missing;
use crate::{Error, Fault};

/// Seconds until a place in the queue may be free, or the base may be loaded.
const SOON: u32 = 1;
/// Seconds until the machine may have memory or a thread again.
const LATER: u32 = 10;

/// An error as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The status of the response.
    pub status: StatusCode,
    /// The kind of error, a word for programs: the envelope's `type`.
    pub kind: &'static str,
    /// The exact error, a word for programs, where there is one.
    pub code: Option<&'static str>,
    /// The field of the request that is at fault, where one is.
    pub param: Option<Cow<'static, str>>,
    /// The tokens of a prompt that is too long, and those of the context.
    pub sizes: Option<(usize, usize)>,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
    /// A sentence for people.
    pub message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Display) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            sizes: None,
            retry_after: None,
            message: message.to_string(),
        }
    }

    /// 400: the request cannot be used.
    pub fn invalid(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// 400: the field `param` cannot be used.
    pub fn invalid_field(param: impl Into<Cow<'static, str>>, message: impl Display) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::invalid(message)
        }
    }

    /// 400: the prompt, made from the field `param`, leaves no room for an answer. The envelope has both sizes in tokens,
    /// as llama-server gives them.
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

    /// 401: the request has no key, or an unknown one.
    pub fn unauthorized() -> Self {
        let message =
            "a key is needed: send `Authorization: Bearer KEY`; `cope-llama user key` makes one";
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
        }
    }

    /// 403: the caller may not do this.
    pub fn forbidden(message: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// 404: there is no model `name`, as far as the caller may know.
    pub fn no_model(name: &str) -> Self {
        Self {
            code: Some("model_not_found"),
            param: Some("model".into()),
            ..Self::not_found(format!("there is no model {name:?} for this key"))
        }
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    /// 405: the path exists, and takes requests of other methods.
    pub fn wrong_method(message: impl Display) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..Self::invalid(message)
        }
    }

    /// 409: other work is in the way.
    pub fn conflict(message: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict_error", message)
    }

    /// 413: the body is longer than `limit` bytes.
    pub fn body_too_long(limit: usize) -> Self {
        Self::too_large(format!("the body is longer than {limit} bytes"))
    }

    /// 413: more is sent than may be.
    pub fn too_large(message: impl Display) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Self::invalid(message)
        }
    }

    /// 429: as many texts wait as may.
    pub fn queue_full() -> Self {
        let message = "too many requests are waiting; try again in a moment";
        Self {
            code: Some("queue_full"),
            retry_after: Some(SOON),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    /// 500: the server, a file of its own or a library has failed.
    pub fn internal(message: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// 500: the code that answers a request has panicked.
    pub fn panicked() -> Self {
        Self::internal(
            "the request hit a bug of cope-llama, which the server's own output describes",
        )
    }

    /// 503: the machine lacks something that it may have later, such as memory or a thread.
    pub fn unavailable(message: impl Display) -> Self {
        Self {
            retry_after: Some(LATER),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable_error",
                message,
            )
        }
    }

    /// 503: no base is chosen yet.
    pub fn no_base() -> Self {
        let message = "there is no base model yet: choose one on the page, or stop the server and run `cope-llama model pull`";
        Self {
            code: Some("no_base"),
            ..Self::unavailable(message)
        }
    }

    /// 503: the base is still being pulled or loaded.
    pub fn loading() -> Self {
        Self {
            code: Some("model_loading"),
            retry_after: Some(SOON),
            ..Self::unavailable("the model is still being loaded; try again in a moment")
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Template(_) => Self::invalid_field("messages", error),
            Error::PromptTooLong { n_prompt, n_ctx } => Self::too_long("prompt", *n_prompt, *n_ctx),
            Error::Contrast(ContrastError::Contrast(_)) => Self::invalid_field("contrast", error),
            Error::Contrast(ContrastError::Plausibility(_)) => {
                Self::invalid_field("plausibility", error)
            }
            // The library lists the users that exist, and a client may not know of others.
            Error::Missing(Missing::User { name, .. }) => Self::no_model(name),
            Error::Missing(Missing::Adapter { user }) => Self::no_model(user),
            // The model was found, and a file that belongs to it was not.
            Error::Missing(Missing::TaskAdapter { .. } | Missing::Manifest { .. }) => {
                Self::internal(error)
            }
            Error::Memory { .. } => Self {
                code: Some("insufficient_memory"),
                ..Self::unavailable(format!(
                    "{error}; the server has to be started with more --memory, or with a smaller --ctx-size or --parallel"
                ))
            },
            Error::NoRoom { .. } => Self {
                code: Some("insufficient_memory"),
                ..Self::unavailable(format!(
                    "{error}; try again later, or start the server with a smaller --ctx-size or --parallel"
                ))
            },
            _ => match error.fault() {
                Fault::Input => Self::invalid(error),
                Fault::Missing => Self::not_found(error),
                Fault::Conflict => Self::conflict(error),
                Fault::Lack => Self::unavailable(error),
                Fault::Internal | Fault::Interrupted => Self::internal(error),
            },
        }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        match rejection.status() {
            StatusCode::BAD_REQUEST => Self::invalid(rejection.body_text()),
            _ => Self::internal(rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
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
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Where another API has a form of its own for errors, it is made of this.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::MemoryUser;

    #[test]
    fn the_status_follows_the_kind_of_the_error() {
        let memory = Error::Memory {
            needed: 2,
            limit: 1,
        };
        let no_room = Error::NoRoom {
            user: MemoryUser::Context {
                n_ctx: 512,
                n_sequences: 2,
            },
            needed: 2,
            free: 1,
        };
        let llama = Error::Llama {
            operation: "decode 1 token".into(),
            reason: String::new(),
        };
        let task = Missing::Task { name: "t".into() };
        for (error, status, retry_after) in [
            (Error::input("no"), 400, None),
            (ContrastError::Contrast(-1.0).into(), 400, None),
            (task.into(), 404, None),
            (Error::Locked("ann".into()), 409, None),
            (llama, 500, None),
            (ContrastError::NoCandidate.into(), 500, None),
            (Error::bug("out of step"), 500, None),
            (Error::lack("no thread"), 503, Some(LATER)),
            (memory, 503, Some(LATER)),
            (no_room, 503, Some(LATER)),
        ] {
            let message = error.to_string();
            let told = ApiError::from(error);
            assert_eq!(told.status.as_u16(), status, "{message}");
            assert_eq!(told.retry_after, retry_after, "{message}");
            assert!(told.message.contains(&message), "{}", told.message);
        }
    }

    #[test]
    fn a_client_does_not_learn_the_names_of_other_users() {
        let missing = Missing::User {
            name: "bob".into(),
            known: vec!["ann".into(), "eve".into()],
        };
        let told = ApiError::from(Error::from(missing));
        assert_eq!(told, ApiError::no_model("bob"));
        assert!(!told.message.contains("ann"), "{}", told.message);
    }
}
