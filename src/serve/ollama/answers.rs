//! Handlers of `/api/chat` and `/api/generate`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::answer_lines::{AnswerLines, Endpoint};
use super::own_errors;
use super::translation::{ChatBody, GenerateBody, OllamaRequest, WantedAnswer};
use crate::llama::Model;
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::auth::Caller;
use crate::serve::extract::JsonFields;
use crate::serve::openai::answer_stream::{AnswerStream, MAX_CHUNKS};
use crate::serve::openai::wanted::Wanted;

/// The sender of the lines that a client reads.
type LineSender = Sender<Result<Bytes, Infallible>>;

/// Answers with the next message of a chat.
pub async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(ChatBody(request)): JsonFields<ChatBody>,
) -> Result<Response, ApiError> {
    answer(&app, &caller, Endpoint::Chat, request).await
}

/// Answers a prompt.
pub async fn generate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(GenerateBody(request)): JsonFields<GenerateBody>,
) -> Result<Response, ApiError> {
    answer(&app, &caller, Endpoint::Generate, request).await
}

async fn answer(
    app: &Arc<App>,
    caller: &Caller,
    endpoint: Endpoint,
    request: OllamaRequest,
) -> Result<Response, ApiError> {
    let base = app.base()?;
    if request.thinks && !base.template.offers_thinking()? {
        let message = "`think` is true, and this model cannot be asked to think: leave it out";
        return Err(ApiError::invalid_field("think", message));
    }
    let lines = |name: String| AnswerLines {
        endpoint,
        model: request.model.unwrap_or(name),
    };
    let wanted = match request.asked {
        WantedAnswer::Load(voice) => {
            let voice = voice.resolve(&app.home, caller, &base.name)?;
            return Ok(Json(lines(voice.name).loaded()).into_response());
        }
        WantedAnswer::Message(asked) => Wanted::message(app, base, caller, *asked).await?,
        WantedAnswer::Continuation(asked) => {
            Wanted::continuation(app, base, caller, *asked).await?
        }
    };
    let n_ctx = request.n_ctx.unwrap_or(base.n_ctx);
    let wanted = wanted.within(n_ctx.min(base.n_ctx))?;
    let lines = lines(wanted.voice.name.clone());
    let mut text = wanted.begin_one(app, base, caller)?;
    if !request.stream {
        let (part, usage) = text.whole().await?;
        return Ok(Json(lines.whole(&part, usage, &base.model)).into_response());
    }
    // An error before the first part can still be the response's own status; a later one is a line of the stream.
    text.wait().await?;
    let (client, receiver) = channel(MAX_CHUNKS);
    tokio::spawn(stream(lines, text, Arc::clone(&base.model), client));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

/// Sends the answer part by part until it ends, an error ends it, or the client has gone.
async fn stream(lines: AnswerLines, mut text: AnswerStream, model: Arc<Model>, client: LineSender) {
    loop {
        let part = tokio::select! {
            part = text.part() => part,
            () = client.closed() => return,
        };
        let part = match part {
            Ok(part) => part,
            // Without this line, clients would take what they have for the whole answer.
            Err(error) => {
                send(&client, &own_errors::body(&error)).await;
                return;
            }
        };
        // Clients drop the text of the line that ends an answer.
        let says_something = !part.text.is_empty() || !part.thought.is_empty();
        let explains = part.explained.as_ref().is_some_and(|it| !it.is_empty());
        if (says_something || explains) && send(&client, &lines.part(&part, &model)).await.is_none()
        {
            return;
        }
        if part.finish.is_some() {
            send(&client, &lines.end(&part, text.usage())).await;
            return;
        }
    }
}

/// Sends an object as a line; `None` if the client has gone.
async fn send(client: &LineSender, object: &Value) -> Option<()> {
    client
        .send(Ok(Bytes::from(format!("{object}\n"))))
        .await
        .ok()
}
