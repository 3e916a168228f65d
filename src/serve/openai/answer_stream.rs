//! A text under way, from what is wanted of the decoder to what the client is told.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::Event;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::response::{AnswerPart, Envelope, Explained, Usage};
use crate::Result as LibraryResult;
use crate::decode::{AnswerOptions, BatchEvent, Finish};
use crate::llama::{Model, Special, Token};
use crate::serve::app::{App, Ready};
use crate::serve::engine::Job;
use crate::serve::error::ApiError;
use crate::serve::model_cache::VoiceRequest;

/// The stream of events that a client reads.
pub type Client = Sender<Result<Event, Infallible>>;

/// A text under way. Once it is dropped, the decoder ends it.
pub struct AnswerStream {
    /// Its number among those of the request.
    index: usize,
    usage: Usage,
    events: UnboundedReceiver<LibraryResult<BatchEvent>>,
    began: Instant,
    first_token: Option<Instant>,
    deadline: Instant,
    app: Arc<App>,
    model: Arc<Model>,
    explains: bool,
    /// What comes before the text.
    echo: String,
    /// Tokens whose text is still held back.
    pending: Vec<Explained>,
    /// What comes next, if it is known already.
    next: Option<AnswerPart>,
    /// Its place among the requests.
    _permit: OwnedSemaphorePermit,
}

impl AnswerStream {
    /// Has the decoder begin it, for `owner`; an `echo` of the prompt comes before it.
    ///
    /// # Errors
    ///
    /// Too many wait, or the decoder has stopped.
    pub fn begin(
        app: &Arc<App>,
        ready: &Ready,
        owner: u64,
        voice: VoiceRequest,
        index: usize,
        (prompt, options, explained): (Vec<Token>, AnswerOptions, Option<usize>),
        echo: bool,
    ) -> Result<Self, ApiError> {
        let permit = app.permit()?;
        let (reply, events) = unbounded_channel();
        let began = Instant::now();
        let explains = explained.is_some();
        let echo = if echo {
            let bytes = prompt
                .iter()
                .flat_map(|&token| ready.model.token_bytes(token, Special::ByName));
            String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
        } else {
            String::new()
        };
        let usage = Usage {
            n_prompt: prompt.len(),
            ..Usage::default()
        };
        ready.engine.submit(Job {
            voice,
            prompt,
            options,
            explained,
            owner,
            reply,
        })?;
        Ok(Self {
            index,
            usage,
            events,
            began,
            first_token: None,
            deadline: began + app.limits.time,
            app: Arc::clone(app),
            model: Arc::clone(&ready.model),
            explains,
            echo,
            pending: Vec::new(),
            next: None,
            _permit: permit,
        })
    }

    /// Waits until there is something of it, once.
    ///
    /// # Errors
    ///
    /// It cannot be begun.
    pub async fn wait(&mut self) -> Result<(), ApiError> {
        self.next = Some(self.decoded().await?);
        Ok(())
    }

    /// What comes next: some text, or the end.
    async fn part(&mut self) -> Result<AnswerPart, ApiError> {
        match self.next.take() {
            Some(part) => Ok(part),
            None => self.decoded().await,
        }
    }

    /// What comes next from the decoder. What takes too long ends where it is.
    async fn decoded(&mut self) -> Result<AnswerPart, ApiError> {
        loop {
            let event = tokio::time::timeout_at(self.deadline, self.events.recv()).await;
            let now = Instant::now();
            let first_token = *self.first_token.get_or_insert(now);
            let event = match event {
                Ok(Some(event)) => event?,
                Ok(None) => return Err(ApiError::internal("the decoder has stopped")),
                Err(_) => return Ok(self.told("", Some(Finish::Interrupted))),
            };
            match event {
                BatchEvent::Choice(choice, best) => {
                    self.usage.n_completion += 1;
                    self.pending.push(Explained { choice, best });
                }
                BatchEvent::Text(text) => return Ok(self.told(&text, None)),
                BatchEvent::Finished {
                    response,
                    finish,
                    n_kept,
                    ..
                } => {
                    self.usage.n_completion = response.len();
                    self.usage.n_cached = n_kept;
                    self.usage.prompt_time = first_token - self.began;
                    self.usage.completion_time = now - first_token;
                    self.app.metrics.count_text(self.usage);
                    // The token that ended the turn is no part of the answer.
                    if finish == Finish::EndOfTurn {
                        self.pending.pop();
                    }
                    return Ok(self.told("", Some(finish)));
                }
                BatchEvent::Failed(error) => return Err(error.into()),
            }
        }
    }

    fn told(&mut self, text: &str, finish: Option<Finish>) -> AnswerPart {
        let pending = std::mem::take(&mut self.pending);
        AnswerPart {
            text: std::mem::take(&mut self.echo) + text,
            explained: self.explains.then_some(pending),
            finish,
        }
    }

    /// All of it.
    ///
    /// # Errors
    ///
    /// It cannot be begun, or the decoder has failed.
    pub async fn whole(mut self) -> Result<(AnswerPart, Usage), ApiError> {
        let mut whole = self.part().await?;
        while whole.finish.is_none() {
            let part = self.part().await?;
            whole.text.push_str(&part.text);
            whole.finish = part.finish;
            if let (Some(all), Some(more)) = (&mut whole.explained, part.explained) {
                all.extend(more);
            }
        }
        Ok((whole, self.usage))
    }

    /// Sends it part by part; `None` if the client has gone, or was told of an error.
    pub async fn stream(mut self, answer: Envelope, client: Client) -> Option<Usage> {
        if let Some(beginning) = answer.beginning(self.index) {
            send(&client, &beginning).await?;
        }
        loop {
            let part = tokio::select! {
                part = self.part() => part,
                () = client.closed() => return None,
            };
            match part {
                Ok(part) => {
                    send(&client, &answer.chunk(self.index, &part, &self.model)).await?;
                    if part.finish.is_some() {
                        return Some(self.usage);
                    }
                }
                Err(error) => {
                    send(&client, &error.body()).await?;
                    return None;
                }
            }
        }
    }
}

/// Sends an object; `None` if the client has gone.
pub async fn send(client: &Client, object: &Value) -> Option<()> {
    let event = Event::default().data(object.to_string());
    client.send(Ok(event)).await.ok()
}
