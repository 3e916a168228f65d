//! The routes, and the layers around them: who may ask, which pages may ask, and what is counted.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::api_error::ApiError;
use super::app::App;
use super::auth::Caller;
use super::ollama::{self, own_errors};
use super::openai::{completions, models, responses, tokenize};
#[cfg(feature = "train")]
use super::training_api;
use super::{
    bases_api, chats_api, feedback_api, guesses_api, history_api, markdown_api, origin, page,
    uploads_api, users_api,
};

/// The OpenAPI description of these routes.
const OPENAPI: &str = include_str!("openapi.json");

/// The routes of a server.
pub fn routes(app: &Arc<App>) -> Router {
    let with_caller = openai()
        .merge(ollama())
        .merge(page_interface())
        .merge(training())
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(Arc::clone(app), authorize));
    Router::new()
        .merge(with_caller)
        .route("/", get(page::html))
        .route("/page/{file}", get(page::file))
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .route("/api/version", get(ollama::model_list::version))
        .route("/openapi.json", get(openapi))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(app.limits.body))
        .layer(from_fn_with_state(Arc::clone(app), count))
        .layer(from_fn_with_state(Arc::clone(app), check))
        .layer(from_fn(own_errors::in_own_form))
        .with_state(Arc::clone(app))
}

/// The routes of OpenAI's API and of llama-server's.
fn openai() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/v1/models/{name}", get(models::find))
        .route("/models/{name}", get(models::find))
        .route("/lora-adapters", get(models::adapters))
        .route("/props", get(models::props))
        .route("/v1/responses", post(responses::create))
        .route("/responses", post(responses::create))
        .route("/v1/embeddings", post(embeddings))
        .route("/embeddings", post(embeddings))
        .route("/v1/chat/completions", post(completions::chat))
        .route("/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::completion))
        .route("/completions", post(completions::completion))
        .route(
            "/v1/chat/completions/input_tokens",
            post(completions::input_tokens),
        )
        .route(
            "/chat/completions/input_tokens",
            post(completions::input_tokens),
        )
        .route("/apply-template", post(completions::apply_template))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
}

/// The routes of Ollama's API.
fn ollama() -> Router<Arc<App>> {
    Router::new()
        .route("/api/chat", post(ollama::answers::chat))
        .route("/api/generate", post(ollama::answers::generate))
        .route("/api/tags", get(ollama::model_list::tags))
        .route("/api/show", post(ollama::model_list::show))
        .route("/api/ps", get(ollama::model_list::ps))
        .route("/api/embed", post(embeddings))
        .route("/api/embeddings", post(embeddings))
}

/// The routes that only the page asks.
fn page_interface() -> Router<Arc<App>> {
    Router::new()
        .route("/api/me", get(users_api::me))
        .route("/api/users", post(users_api::create))
        .route("/api/bases", get(bases_api::list))
        .route(
            "/api/bases/{name}",
            post(bases_api::choose).delete(bases_api::stop),
        )
        .route("/api/users/{name}/history", get(history_api::list))
        .route(
            "/api/users/{name}/history/{item}",
            put(history_api::edit).delete(history_api::remove),
        )
        .route("/api/users/{name}/uploads", post(uploads_api::receive))
        .route(
            "/api/users/{name}/uploads/{id}",
            get(uploads_api::preview)
                .post(uploads_api::take)
                .delete(uploads_api::remove),
        )
        .route("/api/users/{name}/feedback", post(feedback_api::add))
        .route("/api/users/{name}/chats", get(chats_api::list))
        .route(
            "/api/users/{name}/chats/{id}",
            get(chats_api::load)
                .put(chats_api::save)
                .delete(chats_api::remove),
        )
        .route(
            "/api/users/{name}/guesses",
            get(guesses_api::next).post(guesses_api::add),
        )
        .route("/api/markdown", post(markdown_api::render))
}

#[cfg(feature = "train")]
fn training() -> Router<Arc<App>> {
    let methods = get(training_api::status)
        .post(training_api::start)
        .delete(training_api::stop);
    Router::new().route("/api/users/{name}/training", methods)
}

#[cfg(not(feature = "train"))]
fn training() -> Router<Arc<App>> {
    Router::new()
}

/// Says whether the server can answer: it cannot while the base is being loaded, nor once the decoder has stopped.
async fn health(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.base()?.engine.check()?;
    Ok(Json(json!({ "status": "ok" })))
}

async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], OPENAPI).into_response()
}

/// Answers with the metrics, which only the administrator may read.
async fn metrics(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    caller.require_admin("read the metrics")?;
    let gauges = app.base().ok().map(|base| base.engine.gauges());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = HeaderValue::from_static(kind);
    Ok(([(header::CONTENT_TYPE, kind)], app.metrics.text(gauges)).into_response())
}

/// Says that there are no embeddings, so that no client takes the path for misspelt.
async fn embeddings() -> ApiError {
    ApiError::not_found("this server makes no embeddings: its models are for writing")
}

async fn unknown(request: Request) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", request.uri().path()))
}

async fn wrong_method(request: Request) -> ApiError {
    let (path, method) = (request.uri().path(), request.method());
    ApiError::wrong_method(format!("{path} takes no requests of the method {method}"))
}

/// Finds out who the caller is, and refuses requests without a valid key.
async fn authorize(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = app.auth.caller(request.headers())?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Refuses requests that are not meant for this server, and answers browsers' preflight requests.
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
    let private = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in private {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Counts requests by their routes, whose patterns name no user. A handler that panics is answered as an error.
async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or("other", MatchedPath::as_str).to_owned();
    // A task of its own catches the panic. The set cancels it when the client goes away.
    let mut handler = JoinSet::new();
    handler.spawn(next.run(request));
    let response = match handler.join_next().await {
        Some(Ok(response)) => response,
        _ => ApiError::panicked().into_response(),
    };
    app.metrics
        .count_request(&route, response.status().as_u16());
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use ureq::http;

    use super::*;
    use crate::home::Home;
    use crate::llama::ContextOptions;
    use crate::serve::settings::{EngineSettings, RequestLimits, ServeOptions};

    fn options(base: Option<&Path>) -> ServeOptions {
        ServeOptions {
            address: ([127, 0, 0, 1], 0).into(),
            base: base.map(Path::to_owned),
            gpu_layers: None,
            settings: EngineSettings {
                context: ContextOptions::default(),
                parallel: 1,
                parallel_user: 1,
                memory: 1 << 30,
            },
            limits: RequestLimits {
                body: 1 << 16,
                uploads: 1 << 16,
                n_predict: 8,
                queue: 1,
                time: Duration::from_secs(60),
            },
            retrieve: 0,
            task_arm: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            places: crate::bases::Places::default(),
            open_webui_secret: None,
        }
    }

    /// The responses of a server with the state `app` to the requests of `ask`, which runs on a thread of its own.
    fn serve<T: Send + 'static>(
        app: &Arc<App>,
        ask: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let asked = tokio::task::spawn_blocking(move || ask(address));
            tokio::select! {
                _ = axum::serve(listener, routes(app)).into_future() => panic!("the server ended"),
                told = asked => told.unwrap(),
            }
        })
    }

    /// Status, `Retry-After`, and the code of the error of every request that needs the base.
    fn ask_everything(address: SocketAddr) -> Vec<(String, u16, Option<String>, Value)> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let chat = json!({ "model": "base", "messages": [{ "role": "user", "content": "hello" }] });
        let prompt = json!({ "model": "base", "prompt": "hello" });
        let posts = [
            ("/v1/chat/completions", &chat),
            ("/v1/chat/completions/input_tokens", &chat),
            ("/apply-template", &chat),
            ("/v1/completions", &prompt),
            (
                "/v1/responses",
                &json!({ "model": "base", "input": "hello" }),
            ),
            ("/tokenize", &json!({ "content": "hello" })),
            ("/detokenize", &json!({ "tokens": [1] })),
        ];
        let told = |path: &str, response: http::Response<ureq::Body>| {
            let retry_after = response.headers().get(header::RETRY_AFTER.as_str());
            let retry_after = retry_after.map(|it| it.to_str().unwrap().to_owned());
            let status = response.status().as_u16();
            let body: Value = response.into_body().read_json().unwrap();
            (path.to_owned(), status, retry_after, body["error"].clone())
        };
        let url = |path: &str| format!("http://{address}{path}");
        let got = ["/health", "/v1/models", "/v1/models/base", "/props"]
            .map(|path| told(path, agent.get(url(path)).call().unwrap()));
        let posted =
            posts.map(|(path, body)| told(path, agent.post(url(path)).send_json(body).unwrap()));
        got.into_iter().chain(posted).collect()
    }

    #[test]
    fn requests_that_need_the_base_are_503_while_it_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.gguf");
        let app = Arc::new(App::new(&Home::at(folder.path()), options(Some(&base))));
        let told = serve(&app, ask_everything);
        assert_eq!(told.len(), 11);
        for (path, status, retry_after, error) in told {
            assert_eq!(status, 503, "{path}: {error}");
            assert_eq!(retry_after.as_deref(), Some("1"), "{path}");
            assert_eq!(error["code"], "model_loading", "{path}");
            assert_eq!(error["type"], "unavailable_error", "{path}");
        }
    }

    #[test]
    fn requests_that_need_a_base_are_503_and_say_where_one_comes_from_until_one_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let app = Arc::new(App::new(&Home::at(folder.path()), options(None)));
        app.base_choice.load_given().unwrap();
        for (path, status, retry_after, error) in serve(&app, ask_everything) {
            assert_eq!(status, 503, "{path}: {error}");
            assert_eq!(retry_after.as_deref(), Some("10"), "{path}");
            assert_eq!(error["code"], "no_base", "{path}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("`cope-llama model pull`"), "{message}");
        }
    }

    #[test]
    fn requests_that_need_a_base_that_cannot_be_loaded_are_500() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.gguf");
        std::fs::write(&base, b"not a model").unwrap();
        let app = Arc::new(App::new(&Home::at(folder.path()), options(Some(&base))));
        app.base_choice.load_given().unwrap_err();
        for (path, status, retry_after, error) in serve(&app, ask_everything) {
            assert_eq!(status, 500, "{path}: {error}");
            assert_eq!(retry_after, None, "{path}");
            assert_eq!(error["type"], "server_error", "{path}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("base.gguf"), "{path}: {message}");
        }
    }
}
