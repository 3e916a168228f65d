//! The handler of `/v1/responses`, OpenAI's newer form of a chat. A request is read as the chat that asks for the same. The
//! server stores no conversations: a request has all of its turns.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::answer_stream::{AnswerStream, KEEP_ALIVE, MAX_CHUNKS};
use super::request::ChatRequest;
use super::response_events::ResponseEvents;
use super::wanted::Wanted;
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::auth::Caller;
use crate::serve::extract::JsonFields;
use crate::serve::fields::{Field, Fields, FromFields};
use crate::serve::harmless::Harmless;

/// The fields that have the same name and meaning in a chat, this server's own included.
const CHAT_FIELDS: [&str; 17] = [
    "model",
    "user",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "chat_template_kwargs",
    "seed",
    "arm",
    "contrast",
    "plausibility",
    "scale",
    "lora",
    "retrieve",
    "regenerate",
    "grammar",
    "ignore_eos",
];

/// The fields by which a conversation goes on that a server has stored.
const STORED: [&str; 2] = ["previous_response_id", "conversation"];

/// The body of a request.
pub struct ResponsesBody {
    chat: ChatRequest,
    stream: bool,
}

impl FromFields for ResponsesBody {
    fn from_fields(mut body: Fields) -> Result<Self, ApiError> {
        for name in STORED {
            if let Some(field) = body.take(name) {
                return Err(field.wrong(
                    "cannot be used: this server stores no conversations, so send all turns as `input`",
                ));
            }
        }
        if let Some(store) = body.take("store")
            && store.read::<bool>()?
        {
            let what = "cannot be true: this server stores no conversations; leave it out";
            return Err(store.wrong(what));
        }
        let mut asked = Fields::none();
        let input = body.need("input")?;
        let input = match input.value()? {
            Value::String(text) => {
                Field::new("input", &json!([{ "role": "user", "content": text }]))
            }
            // Thoughts of earlier turns are not part of a prompt.
            Value::Array(mut items) if items.iter().any(is_thought) => {
                items.retain(|item| !is_thought(item));
                Field::new("input", &json!(items))
            }
            _ => input,
        };
        asked.put("messages", Some(input));
        for name in CHAT_FIELDS {
            asked.put(name, body.take(name));
        }
        asked.put("max_completion_tokens", body.take("max_output_tokens"));
        asked.put(
            "json_schema",
            body.take("text").as_ref().map_or(Ok(None), schema)?,
        );
        let instructions = body.read("instructions")?.unwrap_or_default();
        let stream = body.read("stream")?.unwrap_or_default();
        body.finish(&Harmless::RESPONSES)?;
        Ok(Self {
            chat: ChatRequest::from_fields(asked)?.with_system(instructions),
            stream,
        })
    }
}

/// Whether an item of an earlier output is a thought.
fn is_thought(item: &Value) -> bool {
    item["type"] == "reasoning"
}

/// The JSON schema of the field `text`, if it wants one.
fn schema(text: &Field) -> Result<Option<Field>, ApiError> {
    let mut text = text.fields()?;
    let format = text.take("format");
    text.finish(&Harmless::RESPONSES_TEXT)?;
    let Some(format) = format else {
        return Ok(None);
    };
    let mut fields = format.fields()?;
    let kind = fields.need("type")?;
    let schema = match kind.read::<String>()?.as_str() {
        "text" => None,
        "json_object" => Some(Field::new("text.format", &json!({ "type": "object" }))),
        "json_schema" => Some(fields.need("schema")?),
        name => {
            return Err(kind.wrong(format!(
                "{name:?} is not known: use `text`, `json_object` or `json_schema`"
            )));
        }
    };
    fields.finish(&Harmless::JSON_SCHEMA)?;
    Ok(schema)
}

/// Answers with the next message of a chat.
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonFields(ResponsesBody { chat, stream }): JsonFields<ResponsesBody>,
) -> Result<Response, ApiError> {
    let base = app.base()?;
    let wanted = Wanted::message(&app, base, &caller, chat).await?;
    let events = ResponseEvents::new(wanted.voice.name.clone(), &wanted.options);
    let mut text = wanted.begin_one(&app, base, &caller)?;
    if !stream {
        return Ok(Json(whole(events, text).await?).into_response());
    }
    // An error before the first part can still be the response's own status; a later one is an event of the stream.
    text.wait().await?;
    let (client, receiver) = channel(MAX_CHUNKS);
    tokio::spawn(send_all(events, text, client));
    Ok(Sse::new(ReceiverStream::new(receiver))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

/// Waits for the whole response.
async fn whole(mut events: ResponseEvents, mut text: AnswerStream) -> Result<Value, ApiError> {
    loop {
        let part = text.part().await?;
        events.part(&part);
        if let Some(finish) = part.finish {
            events.end(finish, text.usage());
            return Ok(events.response());
        }
    }
}

/// Sends the events of a response until it ends or the client has gone.
async fn send_all(
    mut events: ResponseEvents,
    mut text: AnswerStream,
    client: Sender<Result<Event, Infallible>>,
) {
    let mut next = events.begin();
    loop {
        for event in next {
            let kind = event["type"].as_str().unwrap_or_default();
            let event = Event::default().event(kind).data(event.to_string());
            if client.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if events.has_ended() {
            return;
        }
        let part = tokio::select! {
            part = text.part() => part,
            () = client.closed() => return,
        };
        next = match part {
            Ok(part) => {
                let mut next = events.part(&part);
                if let Some(finish) = part.finish {
                    next.extend(events.end(finish, text.usage()));
                }
                next
            }
            Err(error) => events.failed(&error),
        };
    }
}
