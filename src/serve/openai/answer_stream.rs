//! An answer while it is decoded: from a job for the engine to the events that a client reads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::response::{AnswerPart, Envelope, Explained};
use crate::decode::{AnswerOptions, BatchEvent, Choice, Finish};
use crate::llama::{Model, Special, Token};
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::auth::Caller;
use crate::serve::engine::{Job, TextEvent, dead};
use crate::serve::loaded_base::LoadedBase;
use crate::serve::usage::Usage;
use crate::serve::voice_request::VoiceRequest;
use crate::thought::{SplitText, ThoughtSplitter};

/// The interval of comments that keep a stream without chunks open.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The most chunks that wait for a client who reads slowly.
pub const MAX_CHUNKS: usize = 64;

/// The sender of the server-sent events that a client reads.
pub type Client = Sender<Result<Event, Infallible>>;

/// A prompt, and how its answer is decoded.
pub struct WantedText {
    /// The tokens of the prompt.
    pub prompt: Vec<Token>,
    /// The text of the prompt, if the answer begins with it.
    pub echo: Option<String>,
    /// Options of sampling, and the limits of the answer.
    pub options: AnswerOptions,
    /// The number of candidates that are explained beside each token, if tokens are explained.
    pub explained: Option<usize>,
    /// Divides the answer into a thought and the rest, if it may have a thought.
    pub splitter: Option<ThoughtSplitter>,
}

/// One answer while it is decoded. Dropping it cancels the text.
pub struct AnswerStream {
    /// The answer's number among those of its request.
    index: usize,
    usage: Usage,
    events: UnboundedReceiver<TextEvent>,
    began: Instant,
    first_token: Option<Instant>,
    /// The answer ends here, finished or not.
    deadline: Instant,
    app: Arc<App>,
    model: Arc<Model>,
    /// Whether the answer's tokens come with their probabilities.
    explains: bool,
    /// Text to send before the answer.
    echo: String,
    splitter: Option<ThoughtSplitter>,
    /// Whether the answer begins with its prompt, whose tokens are then told like its own.
    is_echoed: bool,
    /// Tokens whose text has not been sent yet.
    pending: Vec<Explained>,
    /// The number of whole characters of the tokens so far, of which some may be U+FFFD.
    n_chars: usize,
    /// The number of characters that the tokens of an echo begin with and its text does not, such as those of BOS.
    n_added: usize,
    /// The bytes after them, which begin a character.
    tail: Vec<u8>,
    /// The first part, if [`wait`](Self::wait) has waited for it.
    first_part: Option<AnswerPart>,
    /// The text's place in the queue.
    _permit: OwnedSemaphorePermit,
}

impl AnswerStream {
    /// Hands the text of `caller` to the engine.
    ///
    /// # Errors
    ///
    /// [`ApiError::queue_full`] when all places are taken; [`ApiError::internal`] when the engine has stopped.
    pub fn begin(
        app: &Arc<App>,
        base: &LoadedBase,
        caller: &Caller,
        voice: VoiceRequest,
        index: usize,
        text: WantedText,
    ) -> Result<Self, ApiError> {
        let permit = app.permit()?;
        let prompt = text.prompt;
        let (reply, events) = unbounded_channel();
        let began = Instant::now();
        let is_echoed = text.echo.is_some();
        let first = prompt.first().filter(|_| is_echoed).copied();
        let echo = text.echo.unwrap_or_default();
        let n_added = if is_echoed {
            let n_chars = text_of(&prompt, &base.model).chars().count();
            n_chars.saturating_sub(echo.chars().count())
        } else {
            0
        };
        let usage = Usage {
            n_prompt: prompt.len(),
            ..Usage::default()
        };
        base.engine.submit(Job {
            owner: caller.prefix_owner(voice.user.as_ref()),
            voice,
            prompt,
            options: text.options,
            explained: text.explained,
            explains_prompt: is_echoed,
            reply,
        })?;
        let mut answer = Self {
            index,
            usage,
            events,
            began,
            first_token: None,
            deadline: began + app.limits.time,
            app: Arc::clone(app),
            model: Arc::clone(&base.model),
            explains: text.explained.is_some(),
            echo,
            splitter: text.splitter,
            is_echoed,
            pending: Vec::new(),
            n_chars: 0,
            n_added,
            tail: Vec::new(),
            first_part: None,
            _permit: permit,
        };
        if let Some(token) = first {
            // No model gives the first token a probability.
            answer.keep(token, None);
        }
        Ok(answer)
    }

    /// Keeps a token until its text is sent.
    fn keep(&mut self, token: Token, told: Option<(Choice, Vec<Choice>)>) {
        let offset = self.n_chars.saturating_sub(self.n_added);
        let bytes = self.model.token_bytes(token, Special::ByName);
        self.tail.extend(bytes);
        self.n_chars += take_chars(&mut self.tail);
        self.pending.push(Explained {
            token,
            offset,
            told,
        });
    }

    /// Waits for the first part of the answer, which is sent later. To be called once.
    ///
    /// # Errors
    ///
    /// The text cannot be decoded.
    pub async fn wait(&mut self) -> Result<(), ApiError> {
        self.first_part = Some(self.decoded().await?);
        Ok(())
    }

    /// The next part of the answer: some text, or its end.
    ///
    /// # Errors
    ///
    /// The text cannot be decoded.
    pub async fn part(&mut self) -> Result<AnswerPart, ApiError> {
        match self.first_part.take() {
            Some(part) => Ok(part),
            None => self.decoded().await,
        }
    }

    /// The counts and times of the answer, once it has ended.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The next part from the decoder. At the deadline the answer ends as it is.
    async fn decoded(&mut self) -> Result<AnswerPart, ApiError> {
        loop {
            let event = tokio::time::timeout_at(self.deadline, self.events.recv()).await;
            let event = match event {
                Ok(Some(event)) => event?,
                // The decoder has dropped the sender without an event that ends the text: it has panicked.
                Ok(None) => return Err(dead().into()),
                Err(_) => return Ok(self.take_part("", Some(Finish::Interrupted))),
            };
            let now = Instant::now();
            if !matches!(event, BatchEvent::Prompt(..)) {
                self.first_token.get_or_insert(now);
            }
            match event {
                BatchEvent::Prompt(choice, best) => {
                    self.keep(choice.token, Some((choice, best)));
                }
                BatchEvent::Choice(choice, best) => {
                    self.usage.n_completion += 1;
                    self.keep(choice.token, Some((choice, best)));
                }
                BatchEvent::Text(text) => return Ok(self.take_part(&text, None)),
                BatchEvent::Failed(error) => return Err(error.into()),
                BatchEvent::Finished {
                    response,
                    finish,
                    n_kept,
                    ..
                } => {
                    self.usage.n_completion = response.len();
                    self.usage.n_cached = n_kept;
                    let first_token = self.first_token.unwrap_or(now);
                    self.usage.prompt_time = first_token - self.began;
                    self.usage.completion_time = now - first_token;
                    self.app.metrics.count_text(self.usage);
                    // The end-of-turn token is not part of the answer. Who asks for the prompt's tokens counts on one more
                    // for each choice.
                    if finish == Finish::EndOfTurn && !self.is_echoed {
                        self.pending.pop();
                    }
                    return Ok(self.take_part("", Some(finish)));
                }
            }
        }
    }

    /// A part of the answer with this text, the tokens that were chosen since the last one, and the echo before the first.
    fn take_part(&mut self, text: &str, finish: Option<Finish>) -> AnswerPart {
        let pending = std::mem::take(&mut self.pending);
        let split = self.split(text, finish);
        AnswerPart {
            text: std::mem::take(&mut self.echo) + &split.answer,
            thought: split.thought,
            explained: self.explains.then_some(pending),
            finish,
        }
    }

    /// Divides the next text of the answer, and what was held back of it at its end.
    fn split(&mut self, text: &str, finish: Option<Finish>) -> SplitText {
        let Some(splitter) = &mut self.splitter else {
            return SplitText {
                answer: text.to_owned(),
                ..SplitText::default()
            };
        };
        let mut split = splitter.push(text);
        if finish.is_some() {
            let rest = splitter.finish();
            split.thought.push_str(&rest.thought);
            split.answer.push_str(&rest.answer);
        }
        split
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    ///
    /// The text cannot be decoded.
    pub async fn whole(mut self) -> Result<(AnswerPart, Usage), ApiError> {
        let mut whole = self.part().await?;
        while whole.finish.is_none() {
            let part = self.part().await?;
            whole.text.push_str(&part.text);
            whole.thought.push_str(&part.thought);
            whole.finish = part.finish;
            if let (Some(all), Some(more)) = (&mut whole.explained, part.explained) {
                all.extend(more);
            }
        }
        Ok((whole, self.usage))
    }

    /// Sends the answer part by part. An error is sent as an event of its own, and ends the answer; the result is then
    /// `None`, as it is when the client has gone.
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
                    let event = Event::default().event("error");
                    let event = event.data(error.body().to_string());
                    client.send(Ok(event)).await.ok()?;
                    return None;
                }
            }
        }
    }
}

/// The text of some tokens, special ones included.
fn text_of(tokens: &[Token], model: &Model) -> String {
    let bytes = tokens
        .iter()
        .flat_map(|&token| model.token_bytes(token, Special::ByName));
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// Removes the whole characters from the beginning of `bytes`, and returns how many there were. Bytes that are no UTF-8
/// become U+FFFD.
fn take_chars(bytes: &mut Vec<u8>) -> usize {
    let (mut n, mut end) = (0, 0);
    loop {
        let error = match std::str::from_utf8(&bytes[end..]) {
            Ok(rest) => {
                n += rest.chars().count();
                bytes.clear();
                return n;
            }
            Err(error) => error,
        };
        let valid = &bytes[end..][..error.valid_up_to()];
        n += String::from_utf8_lossy(valid).chars().count();
        end += valid.len();
        let Some(len) = error.error_len() else {
            bytes.drain(..end);
            return n;
        };
        (n, end) = (n + 1, end + len);
    }
}

/// Sends an object; `None` if the client has gone.
pub async fn send(client: &Client, object: &Value) -> Option<()> {
    let event = Event::default().data(object.to_string());
    client.send(Ok(event)).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_once_they_are_whole() {
        let mut bytes = "aé".as_bytes().to_vec();
        let last = bytes.pop().unwrap();
        assert_eq!((take_chars(&mut bytes), bytes.len()), (1, 1));
        bytes.extend([last, b'b', 0x80, 0xFF, b'c']);
        assert_eq!((take_chars(&mut bytes), bytes.len()), (5, 0));
    }
}
