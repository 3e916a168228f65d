//! Handlers of `/v1/chat/completions` and `/v1/completions`, and of the prompts that chats make.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::sync::mpsc::channel;
use tokio::task::{JoinError, JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::answer_stream::{AnswerStream, Client, WantedText, send};
use super::common_request::CommonRequest;
use super::request::{ChatRequest, ChatTurns, CompletionPrompt, CompletionRequest};
use super::response::{AnswerPart, Envelope, Kind};
use crate::decode::AnswerOptions;
use crate::home::UserName;
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::aside::aside;
use crate::serve::auth::Caller;
use crate::serve::extract::JsonFields;
use crate::serve::loaded_base::LoadedBase;
use crate::serve::usage::{PromptCount, Usage};
use crate::serve::voice_request::ResolvedVoice;
use crate::thought::ThoughtSplitter;

/// The most chunks that wait for a client who reads slowly.
const MAX_CHUNKS: usize = 64;

/// The interval of comments that keep a stream without chunks open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers with the next message of a chat.
pub async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(request): JsonFields<ChatRequest>,
) -> Result<Response, ApiError> {
    let base = app.base()?;
    let request = Arc::new(request);
    let (shared, asked) = (Arc::clone(&app), Arc::clone(&request));
    let options = move || asked.options(&shared.base()?.model, shared.limits.n_predict);
    let (options, explained) = aside(options).await?;
    let voice = voice(&app, base, &caller, &request.common)?;
    let turns = turns_with_items(&app, &request, voice.request.user.as_ref()).await?;
    let prompt = CompletionPrompt {
        tokens: turns.tokens(&base.template, &base.model)?,
        text: String::new(),
    };
    let wanted = Wanted {
        kind: Kind::Chat,
        voice,
        splitter: Some(turns.splitter(&base.template)?),
        prompts: vec![prompt],
        n: request.common.n(1)?,
        options,
        explained,
        is_echoed: false,
    };
    answer(&app, base, &caller, &request.common, wanted).await
}

/// The voice of a request by `caller`.
fn voice(
    app: &App,
    base: &LoadedBase,
    caller: &Caller,
    request: &CommonRequest,
) -> Result<ResolvedVoice, ApiError> {
    request.voice.resolve(&app.home, caller, &base.name)
}

/// The turns of a chat in the voice of `user`, or of the base, with as many items of the user's history as are wanted. A
/// history that was not indexed yet takes a while to read, during which other requests go on.
async fn turns_with_items(
    app: &Arc<App>,
    request: &ChatRequest,
    user: Option<&UserName>,
) -> Result<ChatTurns, ApiError> {
    let turns = request.turns(&app.base()?.template)?;
    let n_items = request.n_retrieved(app.options.retrieve, user)?;
    let Some(user) = user.filter(|_| n_items > 0) else {
        return Ok(turns);
    };
    let (app, user) = (Arc::clone(app), user.clone());
    aside(move || {
        let base = app.base()?;
        let retriever = app.retrievers.get(&app.home.user(user)?)?;
        Ok(turns.with_items(&retriever, n_items, &base.model, base.n_ctx))
    })
    .await
}

/// The turns of a chat whose prompt alone is wanted, by the same rules as for an answer.
async fn turns_of_prompt(
    app: &Arc<App>,
    base: &LoadedBase,
    caller: &Caller,
    request: &ChatRequest,
) -> Result<ChatTurns, ApiError> {
    let voice = voice(app, base, caller, &request.common)?;
    turns_with_items(app, request, voice.request.user.as_ref()).await
}

/// Answers with the continuation of a text.
pub async fn completion(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(request): JsonFields<CompletionRequest>,
) -> Result<Response, ApiError> {
    let base = app.base()?;
    let request = Arc::new(request);
    let (shared, asked) = (Arc::clone(&app), Arc::clone(&request));
    let (prompts, (options, explained)) = aside(move || {
        let model = &shared.base()?.model;
        let options = asked.options(model, shared.limits.n_predict)?;
        Ok((asked.prompts(model)?, options))
    })
    .await?;
    let wanted = Wanted {
        kind: Kind::Completion,
        voice: voice(&app, base, &caller, &request.common)?,
        splitter: None,
        n: request.common.n(prompts.len())?,
        prompts,
        options,
        explained,
        is_echoed: request.echo,
    };
    answer(&app, base, &caller, &request.common, wanted).await
}

/// Answers with the text of the prompt that a chat makes.
pub async fn apply_template(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(request): JsonFields<ChatRequest>,
) -> Result<Json<Value>, ApiError> {
    let base = app.base()?;
    let turns = turns_of_prompt(&app, base, &caller, &request).await?;
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
    let turns = turns_of_prompt(&app, base, &caller, &request).await?;
    let prompt = turns.tokens(&base.template, &base.model)?;
    Ok(Json(
        json!({ "object": "response.input_tokens", "input_tokens": prompt.len() }),
    ))
}

/// The answers that a request wants: `n` to each of the prompts.
struct Wanted {
    kind: Kind,
    voice: ResolvedVoice,
    prompts: Vec<CompletionPrompt>,
    n: usize,
    options: AnswerOptions,
    /// The number of candidates that are explained beside each token, if tokens are explained.
    explained: Option<usize>,
    /// Whether each answer begins with its prompt.
    is_echoed: bool,
    /// Divides an answer into a thought and the rest, in a chat.
    splitter: Option<ThoughtSplitter>,
}

impl Wanted {
    /// A prompt and options for each answer. The answers to one prompt follow each other and have consecutive seeds.
    fn each(&self) -> impl Iterator<Item = WantedText> {
        self.prompts.iter().flat_map(|prompt| {
            (0..).take(self.n).map(|number: u32| {
                let mut options = self.options.clone();
                options.sampling.seed = options.sampling.nth_seed(number);
                WantedText {
                    prompt: prompt.tokens.clone(),
                    echo: self.is_echoed.then(|| prompt.text.clone()),
                    options,
                    explained: self.explained,
                    splitter: self.splitter.clone(),
                }
            })
        })
    }
}

async fn answer(
    app: &Arc<App>,
    base: &LoadedBase,
    caller: &Caller,
    request: &CommonRequest,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    for prompt in &wanted.prompts {
        base.check_length(wanted.kind.prompt_field(), prompt.tokens.len())?;
    }
    let begin = |(index, text)| {
        let voice = wanted.voice.request.clone();
        AnswerStream::begin(app, base, caller, voice, index, text)
    };
    let texts = wanted.each().enumerate().map(begin);
    let mut texts: Vec<AnswerStream> = texts.collect::<Result<_, _>>()?;
    let answer = Envelope::new(wanted.kind, wanted.voice.name, wanted.options.sampling);
    if !request.stream {
        let (parts, usage) = whole(texts, wanted.n).await?;
        return Ok(Json(answer.whole(&parts, usage, &base.model)).into_response());
    }
    // An error before the first part can still be the response's own status; a later one is an event of the stream.
    for text in &mut texts {
        text.wait().await?;
    }
    let (client, receiver) = channel(MAX_CHUNKS);
    tokio::spawn(stream(
        answer,
        texts,
        wanted.n,
        request.include_usage,
        client,
    ));
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
