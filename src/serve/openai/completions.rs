//! Handlers of `/v1/chat/completions` and `/v1/completions`, and of the prompts that chats make.

use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::sync::mpsc::channel;
use tokio::task::{JoinError, JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::answer_stream::{AnswerStream, Client, KEEP_ALIVE, MAX_CHUNKS, send};
use super::common_request::CommonRequest;
use super::request::{ChatRequest, CompletionRequest};
use super::response::{AnswerPart, Envelope};
use super::wanted::{Wanted, voice_and_turns};
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::auth::Caller;
use crate::serve::extract::JsonFields;
use crate::serve::loaded_base::LoadedBase;
use crate::serve::usage::{PromptCount, Usage};

/// Answers with the next message of a chat.
pub async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(request): JsonFields<ChatRequest>,
) -> Result<Response, ApiError> {
    let base = app.base()?;
    let form = StreamForm::of(&request.common);
    let wanted = Wanted::message(&app, base, &caller, request).await?;
    answer(&app, base, &caller, form, wanted).await
}

/// Answers with the continuation of a text.
pub async fn completion(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(request): JsonFields<CompletionRequest>,
) -> Result<Response, ApiError> {
    let base = app.base()?;
    let form = StreamForm::of(&request.common);
    let wanted = Wanted::continuation(&app, base, &caller, request).await?;
    answer(&app, base, &caller, form, wanted).await
}

/// Answers with the text of the prompt that a chat makes.
pub async fn apply_template(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(request): JsonFields<ChatRequest>,
) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let (_, turns) = voice_and_turns(&app, base, &caller, &request).await?;
    let prompt = turns.text(&base.template)?;
    Ok(Json(json!({ "prompt": prompt })))
}

/// Answers with the number of tokens of the prompt that a chat makes.
pub async fn input_tokens(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(request): JsonFields<ChatRequest>,
) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let (_, turns) = voice_and_turns(&app, base, &caller, &request).await?;
    let prompt = turns.tokens(&base.template, &base.model)?;
    Ok(Json(
        json!({ "object": "response.input_tokens", "input_tokens": prompt.len() }),
    ))
}

/// How the answers are sent.
#[derive(Clone, Copy)]
enum StreamForm {
    /// One object.
    Whole,
    /// A stream of parts.
    Parts {
        /// Whether the last chunk has the numbers of tokens.
        with_usage: bool,
    },
}

impl StreamForm {
    fn of(request: &CommonRequest) -> Self {
        if request.stream {
            Self::Parts {
                with_usage: request.include_usage,
            }
        } else {
            Self::Whole
        }
    }
}

async fn answer(
    app: &Arc<App>,
    base: &LoadedBase,
    caller: &Caller,
    form: StreamForm,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let mut texts = wanted.begin(app, base, caller)?;
    let name = wanted.voice.name.clone();
    let answer = Envelope::new(wanted.kind, name, wanted.options.sampling);
    let StreamForm::Parts { with_usage } = form else {
        let (parts, usage) = whole(texts, wanted.n).await?;
        return Ok(Json(answer.whole(&parts, usage, &base.model)).into_response());
    };
    // An error before the first part can still be the response's own status; a later one is an event of the stream.
    for text in &mut texts {
        text.wait().await?;
    }
    let (client, receiver) = channel(MAX_CHUNKS);
    tokio::spawn(stream(answer, texts, wanted.n, with_usage, client));
    Ok(Sse::new(ReceiverStream::new(receiver))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

/// Waits for all answers, of which `n` are to the same prompt. If one fails, the others are cancelled.
async fn whole(texts: Vec<AnswerStream>, n: usize) -> Result<(Vec<AnswerPart>, Usage), ApiError> {
    let mut answers = Vec::new();
    let mut tasks = JoinSet::new();
    for (index, text) in texts.into_iter().enumerate() {
        tasks.spawn(async move { text.whole().await.map(|whole| (index, whole)) });
    }
    while let Some(done) = tasks.join_next().await {
        answers.push(done.map_err(|_: JoinError| ApiError::panicked())??);
    }
    answers.sort_by_key(|(index, _)| *index);
    let usage = answers.iter().map(|(index, (_, usage))| (*index, *usage));
    let usage = total(usage, n);
    let parts = answers.into_iter().map(|(_, (part, _))| part);
    Ok((parts.collect(), usage))
}

/// Sends all answers side by side, part by part. If one fails, its error is the last event, and the others are cancelled.
async fn stream(
    answer: Envelope,
    texts: Vec<AnswerStream>,
    n: usize,
    with_usage: bool,
    client: Client,
) {
    let mut usages = Vec::new();
    let mut tasks = JoinSet::new();
    for (index, text) in texts.into_iter().enumerate() {
        let sent = text.stream(answer.clone(), client.clone());
        tasks.spawn(async move { sent.await.map(|usage| (index, usage)) });
    }
    while let Some(done) = tasks.join_next().await {
        let Ok(Some(usage)) = done else {
            return;
        };
        usages.push(usage);
    }
    if with_usage {
        send(&client, &answer.usage(total(usages, n))).await;
    }
    let _ = client.send(Ok(Event::default().data("[DONE]"))).await;
}

/// The sum over answers with their numbers, of which `n` are to the same prompt.
fn total(usages: impl IntoIterator<Item = (usize, Usage)>, n: usize) -> Usage {
    let add = |all: Usage, (index, usage): (usize, Usage)| {
        let prompt = if index % n == 0 {
            PromptCount::Another
        } else {
            PromptCount::Same
        };
        all.and(usage, prompt)
    };
    usages.into_iter().fold(Usage::default(), add)
}
