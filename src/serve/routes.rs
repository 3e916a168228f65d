//! The routes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::app::App;
use super::error::ApiError;
use super::openai::{generate, models, tokenize};
#[cfg(feature = "train")]
use super::trainer;
use super::{Caller, origin, page, page_api};
use axum::Extension;

/// The OpenAPI description of what follows.
const OPENAPI: &str = include_str!("openapi.json");

/// All of them.
pub fn routes(app: &Arc<App>) -> Router {
    let of_callers = training()
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/lora-adapters", get(models::adapters))
        .route("/v1/chat/completions", post(generate::chat))
        .route("/chat/completions", post(generate::chat))
        .route("/v1/completions", post(generate::completion))
        .route("/completions", post(generate::completion))
        .route(
            "/v1/chat/completions/input_tokens",
            post(generate::input_tokens),
        )
        .route(
            "/chat/completions/input_tokens",
            post(generate::input_tokens),
        )
        .route("/apply-template", post(generate::apply_template))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/api/me", get(page_api::me))
        .route("/api/users/{name}/history", get(page_api::history))
        .route("/api/users/{name}/feedback", post(page_api::feedback))
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(Arc::clone(app), authorize));
    Router::new()
        .merge(of_callers)
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .route("/openapi.json", get(openapi))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(app.limits.body))
        .layer(from_fn_with_state(Arc::clone(app), count))
        .layer(from_fn_with_state(Arc::clone(app), check))
        .with_state(Arc::clone(app))
}

#[cfg(feature = "train")]
fn training() -> Router<Arc<App>> {
    let of_user = get(trainer::status)
        .post(trainer::start)
        .delete(trainer::stop);
    Router::new().route("/api/users/{name}/training", of_user)
}

#[cfg(not(feature = "train"))]
fn training() -> Router<Arc<App>> {
    Router::new()
}

/// 503 while the base is being loaded.
async fn health(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.ready()?;
    Ok(Json(json!({ "status": "ok" })))
}

async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], OPENAPI).into_response()
}

/// For the administrator alone.
async fn metrics(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    if caller != Caller::Admin {
        return Err(ApiError::forbidden(
            "metrics are for the administrator's key",
        ));
    }
    let gauges = app.ready().ok().map(|ready| ready.engine.gauges());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = HeaderValue::from_static(kind);
    Ok(([(header::CONTENT_TYPE, kind)], app.metrics.text(gauges)).into_response())
}

async fn unknown(request: Request) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", request.uri().path()))
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        ..ApiError::invalid(format!(
            "{} has no {}",
            request.uri().path(),
            request.method()
        ))
    }
}

/// Says who asks.
async fn authorize(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = app.auth.caller(request.headers())?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Keeps out what is not meant for this server, and answers browsers that ask whether a page may.
async fn check(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    origin::check(&app.options, request.headers(), request.uri())?;
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Body::empty())
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let allowed = [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                "GET, POST, PUT, DELETE",
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, x-api-key",
            ),
            (header::VARY, "origin"),
        ];
        for (name, value) in allowed {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    let kept_to_itself = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in kept_to_itself {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Counts requests by their routes, which name nobody.
async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or("other", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    // A body that is too long is refused before any route sees it.
    let response = match response.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..ApiError::invalid(format!("the body is longer than {} bytes", app.limits.body))
        }
        .into_response(),
        _ => response,
    };
    app.metrics
        .count_request(&route, response.status().as_u16());
    response
}
