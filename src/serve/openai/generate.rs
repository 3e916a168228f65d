//! `/v1/chat/completions` and `/v1/completions`, and the prompts that they make.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::sync::mpsc::channel;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::answer_stream::{AnswerStream, Client, send};
use super::options::CommonRequest;
use super::request::{ChatRequest, CompletionRequest};
use super::response::{AnswerPart, Envelope, Kind, Usage};
use crate::decode::AnswerOptions;
use crate::llama::Token;
use crate::serve::app::{App, Ready};
use crate::serve::auth::Caller;
use crate::serve::body::parse;
use crate::serve::error::ApiError;

/// Chunks that may wait for a client who reads slowly.
const CHUNKS: usize = 64;

/// Between two signs of life of a stream.
const ALIVE: Duration = Duration::from_secs(15);

/// The next message of a chat.
pub async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let ready = app.ready()?;
    let request: ChatRequest = parse(&headers, &body)?;
    let (options, explained) = request.options(&ready.model, app.limits.n_predict)?;
    let wanted = Wanted {
        kind: Kind::Chat,
        prompts: vec![request.prompt(&ready.template, &ready.model)?],
        n: request.common.n(1)?,
        options,
        explained,
        echo: false,
    };
    answer(&app, ready, &caller, &request.common, wanted).await
}

/// How a text goes on.
pub async fn completion(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let ready = app.ready()?;
    let request: CompletionRequest = parse(&headers, &body)?;
    let prompts = request.prompts(&ready.model)?;
    let (options, explained) = request.options(&ready.model, app.limits.n_predict)?;
    let wanted = Wanted {
        kind: Kind::Completion,
        n: request.common.n(prompts.len())?,
        prompts,
        options,
        explained,
        echo: request.echo.unwrap_or_default(),
    };
    answer(&app, ready, &caller, &request.common, wanted).await
}

/// The text of the prompt that a chat makes.
pub async fn apply_template(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: ChatRequest = parse(&headers, &body)?;
    let prompt = request.prompt_text(&app.ready()?.template)?;
    Ok(Json(json!({ "prompt": prompt })))
}

/// How many tokens that prompt has.
pub async fn input_tokens(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: ChatRequest = parse(&headers, &body)?;
    let ready = app.ready()?;
    let prompt = request.prompt(&ready.template, &ready.model)?;
    Ok(Json(
        json!({ "object": "response.input_tokens", "input_tokens": prompt.len() }),
    ))
}

/// What is wanted: `n` answers to each of the prompts.
struct Wanted {
    kind: Kind,
    prompts: Vec<Vec<Token>>,
    n: usize,
    options: AnswerOptions,
    /// How many candidates come with each token; `None` where the choices are not explained.
    explained: Option<usize>,
    echo: bool,
}

impl Wanted {
    /// The texts, those of one prompt after each other, each with a seed of its own.
    fn each(&self) -> impl Iterator<Item = (Vec<Token>, AnswerOptions, Option<usize>)> {
        self.prompts.iter().flat_map(|prompt| {
            (0..).take(self.n).map(|number: u32| {
                let mut options = self.options.clone();
                // The largest stands for a new seed every time.
                let seed = &mut options.sampling.seed;
                if *seed != u32::MAX {
                    *seed = (*seed + number) % u32::MAX;
                }
                (prompt.clone(), options, self.explained)
            })
        })
    }
}

async fn answer(
    app: &Arc<App>,
    ready: &Ready,
    caller: &Caller,
    request: &CommonRequest,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let (name, voice) = app.voice(ready, caller, request)?;
    for prompt in &wanted.prompts {
        ready.check_length(wanted.kind.prompt_field(), prompt.len())?;
    }
    let begin = |(index, text)| {
        let voice = voice.clone();
        AnswerStream::begin(app, ready, caller.owner(), voice, index, text, wanted.echo)
    };
    let texts = wanted.each().enumerate().map(begin);
    let mut texts: Vec<AnswerStream> = texts.collect::<Result<_, _>>()?;
    let answer = Envelope::new(wanted.kind, name);
    if !request.stream.unwrap_or_default() {
        let (parts, usage) = whole(texts, wanted.n).await?;
        return Ok(Json(answer.whole(&parts, usage, &ready.model)).into_response());
    }
    // What cannot be begun is an error of the request, not of the stream.
    for text in &mut texts {
        text.wait().await?;
    }
    let with_usage = request
        .stream_options
        .as_ref()
        .is_some_and(|it| it.include_usage);
    let (client, receiver) = channel(CHUNKS);
    tokio::spawn(stream(answer, texts, wanted.n, with_usage, client));
    Ok(Sse::new(ReceiverStream::new(receiver))
        .keep_alive(KeepAlive::new().interval(ALIVE))
        .into_response())
}

/// Waits for all texts, of which `n` answer the same prompt. Where one fails, the others end.
async fn whole(texts: Vec<AnswerStream>, n: usize) -> Result<(Vec<AnswerPart>, Usage), ApiError> {
    let mut answers = Vec::new();
    let mut tasks = JoinSet::new();
    for (index, text) in texts.into_iter().enumerate() {
        tasks.spawn(async move { text.whole().await.map(|whole| (index, whole)) });
    }
    while let Some(done) = tasks.join_next().await {
        answers.push(done.map_err(ApiError::internal)??);
    }
    answers.sort_by_key(|(index, _)| *index);
    let usage = answers.iter().map(|(index, (_, usage))| (*index, *usage));
    let usage = total(usage, n);
    let parts = answers.into_iter().map(|(_, (part, _))| part);
    Ok((parts.collect(), usage))
}

/// Sends all texts side by side, part by part, until they end or the client has gone.
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

/// Of texts by their numbers, of which `n` answer the same prompt.
fn total(usages: impl IntoIterator<Item = (usize, Usage)>, n: usize) -> Usage {
    let add = |all: Usage, (index, usage): (usize, Usage)| all.and(usage, index % n == 0);
    usages.into_iter().fold(Usage::default(), add)
}
