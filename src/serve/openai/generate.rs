//! `/v1/chat/completions` and `/v1/completions`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, channel, unbounded_channel};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::request::{ChatRequest, CompletionRequest};
use super::response::{Answer, Explained, Kind, Part, Usage};
use crate::Result as LibraryResult;
use crate::decode::{BatchEvent, DecodeOptions, Finish};
use crate::llama::{Model, Token};
use crate::serve::access::Caller;
use crate::serve::app::{App, Ready};
use crate::serve::engine::Job;
use crate::serve::error::ApiError;
use crate::serve::voices::Voice;

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
    let options = request.options(&ready.model, app.limits.n_predict)?;
    let messages = request.messages()?;
    let prompt = ready.template.prompt_tokens(&ready.model, &messages)?;
    let wanted = Wanted {
        kind: Kind::Chat,
        prompt,
        options,
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
    let options = request.options(&ready.model, app.limits.n_predict)?;
    let wanted = Wanted {
        kind: Kind::Completion,
        prompt: request.prompt(&ready.model)?,
        options,
        echo: request.echo.unwrap_or_default(),
    };
    answer(&app, ready, &caller, &request.common, wanted).await
}

/// The JSON of a request.
pub fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, ApiError> {
    let kind = headers.get("content-type").map(HeaderValue::as_bytes);
    let is_json =
        kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"application/json"));
    // A page of another site can send a text without being asked whether it may, and no JSON.
    if !is_json {
        return Err(ApiError::invalid(
            "the body has to be JSON: send `Content-Type: application/json`",
        ));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}

/// A text that is wanted.
struct Wanted {
    kind: Kind,
    prompt: Vec<Token>,
    options: DecodeOptions,
    echo: bool,
}

async fn answer(
    app: &Arc<App>,
    ready: &Ready,
    caller: &Caller,
    request: &super::request::CommonRequest,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let (name, voice) = app.voice(ready, caller, request)?;
    ready.check_length(wanted.prompt.len())?;
    let permit = app.permit()?;
    let mut text = Text {
        answer: Answer::new(wanted.kind, name),
        usage: Usage {
            n_prompt: wanted.prompt.len(),
            n_completion: 0,
        },
        events: submit(ready, caller, voice, &wanted)?,
        deadline: Instant::now() + app.limits.time,
        app: Arc::clone(app),
        model: Arc::clone(&ready.model),
        explains: wanted.options.explain,
        pending: Vec::new(),
        _permit: permit,
    };
    let echo = if wanted.echo {
        let bytes = wanted
            .prompt
            .iter()
            .flat_map(|&token| ready.model.token_bytes(token, true));
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
    } else {
        String::new()
    };
    if !request.stream.unwrap_or_default() {
        let whole = text.whole(echo).await?;
        return Ok(Json(whole).into_response());
    }
    // What cannot be begun is an error of the request, not of the stream.
    let first = text.next().await?;
    let with_usage = request
        .stream_options
        .as_ref()
        .is_some_and(|it| it.include_usage);
    let (sender, receiver) = channel(CHUNKS);
    tokio::spawn(async move { text.stream(echo, first, with_usage, &sender).await });
    let stream = ReceiverStream::new(receiver);
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(ALIVE))
        .into_response())
}

fn submit(
    ready: &Ready,
    caller: &Caller,
    voice: Voice,
    wanted: &Wanted,
) -> Result<UnboundedReceiver<LibraryResult<BatchEvent>>, ApiError> {
    let (reply, events) = unbounded_channel();
    ready.engine.submit(Job {
        voice,
        prompt: wanted.prompt.clone(),
        options: wanted.options.clone(),
        owner: caller.owner(),
        reply,
    })?;
    Ok(events)
}

/// A text under way. Once it is dropped, the decoder ends it.
struct Text {
    answer: Answer,
    usage: Usage,
    events: UnboundedReceiver<LibraryResult<BatchEvent>>,
    deadline: Instant,
    app: Arc<App>,
    model: Arc<Model>,
    explains: bool,
    /// Tokens whose text is still held back.
    pending: Vec<Explained>,
    /// Its place among the requests.
    _permit: OwnedSemaphorePermit,
}

impl Text {
    /// What comes next: some text, or the end. One that takes too long ends where it is.
    async fn next(&mut self) -> Result<Part, ApiError> {
        loop {
            let event = tokio::time::timeout_at(self.deadline, self.events.recv()).await;
            let event = match event {
                Ok(Some(event)) => event?,
                Ok(None) => return Err(ApiError::internal("the decoder has stopped")),
                Err(_) => return Ok(self.part(String::new(), Some(Finish::Interrupted))),
            };
            match event {
                BatchEvent::Choice(choice, best) => {
                    self.usage.n_completion += 1;
                    self.pending.push(Explained { choice, best });
                }
                BatchEvent::Text(text) => return Ok(self.part(text, None)),
                BatchEvent::Finished {
                    response, finish, ..
                } => {
                    self.usage.n_completion = response.len();
                    self.app.metrics.count_text(self.usage);
                    // The token that ended the turn is no part of the answer.
                    if finish == Finish::EndOfTurn {
                        self.pending.pop();
                    }
                    return Ok(self.part(String::new(), Some(finish)));
                }
            }
        }
    }

    fn part(&mut self, text: String, finish: Option<Finish>) -> Part {
        let pending = std::mem::take(&mut self.pending);
        Part {
            text,
            explained: self.explains.then_some(pending),
            finish,
        }
    }

    async fn whole(mut self, echo: String) -> Result<serde_json::Value, ApiError> {
        let mut whole = Part {
            text: echo,
            explained: self.explains.then(Vec::new),
            finish: None,
        };
        while whole.finish.is_none() {
            let part = self.next().await?;
            whole.text.push_str(&part.text);
            whole.finish = part.finish;
            if let (Some(all), Some(more)) = (&mut whole.explained, part.explained) {
                all.extend(more);
            }
        }
        Ok(self.answer.whole(&whole, self.usage, &self.model))
    }

    /// Sends the answer part by part, until it ends or the client has gone.
    async fn stream(
        mut self,
        echo: String,
        first: Part,
        with_usage: bool,
        client: &Sender<Result<Event, Infallible>>,
    ) {
        let event = |value: serde_json::Value| Ok(Event::default().data(value.to_string()));
        if let Some(beginning) = self.answer.beginning()
            && client.send(event(beginning)).await.is_err()
        {
            return;
        }
        let mut part = first;
        part.text.insert_str(0, &echo);
        loop {
            let finish = part.finish;
            if client
                .send(event(self.answer.chunk(&part, &self.model)))
                .await
                .is_err()
            {
                return;
            }
            if finish.is_some() {
                break;
            }
            let next = tokio::select! {
                next = self.next() => next,
                () = client.closed() => return,
            };
            part = match next {
                Ok(part) => part,
                Err(error) => {
                    let _ = client.send(event(error.body())).await;
                    return;
                }
            };
        }
        if with_usage {
            let _ = client.send(event(self.answer.usage(self.usage))).await;
        }
        let _ = client.send(Ok(Event::default().data("[DONE]"))).await;
    }
}
