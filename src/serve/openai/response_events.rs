//! The object of a response in OpenAI's newer form, and the events by which a stream builds it up.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::response::{AnswerPart, finish_reason, shortest};
use crate::decode::{AnswerOptions, Finish, Sampling};
use crate::serve::api_error::ApiError;
use crate::serve::usage::Usage;

/// A response while its parts arrive.
pub struct ResponseEvents {
    id: String,
    created: u64,
    model: String,
    sampling: Sampling,
    n_predict: Option<usize>,
    /// The items of the output so far, of which the last may still grow.
    items: Vec<OutputItem>,
    state: ResponseState,
    /// The number of events so far.
    n_events: u64,
}

/// How far a response is.
enum ResponseState {
    InProgress,
    Ended(Finish, Usage),
    Failed(ApiError),
}

/// An item of the output.
struct OutputItem {
    id: String,
    kind: OutputKind,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OutputKind {
    /// A thought before the answer.
    Reasoning,
    /// The answer.
    Message,
}

impl OutputItem {
    fn new(kind: OutputKind) -> Self {
        let prefix = match kind {
            OutputKind::Reasoning => "rs",
            OutputKind::Message => "msg",
        };
        Self {
            id: new_id(prefix),
            kind,
            text: String::new(),
        }
    }

    /// The name of the kind of text that the item has.
    fn text_kind(&self) -> &'static str {
        match self.kind {
            OutputKind::Reasoning => "reasoning_text",
            OutputKind::Message => "output_text",
        }
    }

    /// The part of the content that holds `text`.
    fn content(&self, text: &str) -> Value {
        let mut content = json!({ "type": self.text_kind(), "text": text });
        if self.kind == OutputKind::Message {
            content["annotations"] = json!([]);
            content["logprobs"] = json!([]);
        }
        content
    }

    fn object(&self, status: &str, content: &[Value]) -> Value {
        let mut item = json!({ "id": self.id, "status": status, "content": content });
        match self.kind {
            OutputKind::Reasoning => {
                item["type"] = json!("reasoning");
                item["summary"] = json!([]);
            }
            OutputKind::Message => {
                item["type"] = json!("message");
                item["role"] = json!("assistant");
            }
        }
        item
    }
}

impl ResponseEvents {
    /// A response of `model` that has not begun.
    pub fn new(model: String, options: &AnswerOptions) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: new_id("resp"),
            created: now.map_or(0, |it| it.as_secs()),
            model,
            sampling: options.sampling,
            n_predict: options.n_predict,
            items: Vec::new(),
            state: ResponseState::InProgress,
            n_events: 0,
        }
    }

    /// Whether the last event has been made.
    pub fn has_ended(&self) -> bool {
        !matches!(self.state, ResponseState::InProgress)
    }

    /// The events before the output.
    pub fn begin(&mut self) -> Vec<Value> {
        let response = json!({ "response": self.response() });
        ["response.created", "response.in_progress"]
            .map(|kind| self.event(kind, response.clone()))
            .into()
    }

    /// The events of a part of the answer.
    pub fn part(&mut self, part: &AnswerPart) -> Vec<Value> {
        let mut events = self.grow(OutputKind::Reasoning, &part.thought);
        events.extend(self.grow(OutputKind::Message, &part.text));
        events
    }

    /// The events that end the response.
    pub fn end(&mut self, finish: Finish, usage: Usage) -> Vec<Value> {
        let mut events = Vec::new();
        if !self.is_open(OutputKind::Message) {
            events.extend(self.open(OutputKind::Message));
        }
        events.extend(self.close());
        self.state = ResponseState::Ended(finish, usage);
        let kind = format!("response.{}", self.status());
        let response = json!({ "response": self.response() });
        events.push(self.event(&kind, response));
        events
    }

    /// The event of an error, which ends the response.
    pub fn failed(&mut self, error: &ApiError) -> Vec<Value> {
        self.state = ResponseState::Failed(error.clone());
        let response = json!({ "response": self.response() });
        vec![self.event("response.failed", response)]
    }

    /// The response with the output so far.
    pub fn response(&self) -> Value {
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status(),
            "model": self.model,
            "error": null,
            "incomplete_details": null,
            "instructions": null,
            "max_output_tokens": self.n_predict,
            "metadata": {},
            "output": self.items.iter().map(|item| self.whole_item(item)).collect::<Vec<_>>(),
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "seed": self.sampling.seed,
            "store": false,
            "temperature": shortest(self.sampling.temperature),
            "tool_choice": "auto",
            "tools": [],
            "top_p": shortest(self.sampling.top_p),
            "truncation": "disabled",
            "usage": null,
        });
        match &self.state {
            ResponseState::InProgress => {}
            ResponseState::Failed(error) => {
                let code = error.code.unwrap_or("server_error");
                response["error"] = json!({ "code": code, "message": error.message });
            }
            ResponseState::Ended(_, usage) => {
                response["usage"] = json!({
                    "input_tokens": usage.n_prompt,
                    "input_tokens_details": { "cached_tokens": usage.n_cached },
                    "output_tokens": usage.n_completion,
                    "output_tokens_details": { "reasoning_tokens": 0 },
                    "total_tokens": usage.n_prompt + usage.n_completion,
                });
                if self.status() == "incomplete" {
                    response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
                }
            }
        }
        response
    }

    fn status(&self) -> &'static str {
        match &self.state {
            ResponseState::InProgress => "in_progress",
            ResponseState::Failed(_) => "failed",
            ResponseState::Ended(finish, _) if finish_reason(*finish) == "length" => "incomplete",
            ResponseState::Ended(..) => "completed",
        }
    }

    fn whole_item(&self, item: &OutputItem) -> Value {
        let status = match self.status() {
            "failed" => "incomplete",
            status => status,
        };
        item.object(status, &[item.content(&item.text)])
    }

    /// The events of more text of an item of this kind, which begins after the item before it has ended.
    fn grow(&mut self, kind: OutputKind, text: &str) -> Vec<Value> {
        let mut events = Vec::new();
        if text.is_empty() {
            return events;
        }
        if !self.is_open(kind) {
            events.extend(self.close());
            events.extend(self.open(kind));
        }
        if let Some(item) = self.items.last_mut() {
            item.text.push_str(text);
            let name = format!("response.{}.delta", item.text_kind());
            events.extend(self.of_text(&name, &json!({ "delta": text })));
        }
        events
    }

    fn is_open(&self, kind: OutputKind) -> bool {
        self.items.last().is_some_and(|item| item.kind == kind)
    }

    fn open(&mut self, kind: OutputKind) -> Vec<Value> {
        let item = OutputItem::new(kind);
        let (object, content) = (item.object("in_progress", &[]), item.content(""));
        self.items.push(item);
        let added = json!({ "output_index": self.items.len() - 1, "item": object });
        let mut events = vec![self.event("response.output_item.added", added)];
        let name = "response.content_part.added";
        events.extend(self.of_text(name, &json!({ "part": content })));
        events
    }

    /// The events that end the last item, if there is one.
    fn close(&mut self) -> Vec<Value> {
        let Some(item) = self.items.last() else {
            return Vec::new();
        };
        let (text, content) = (item.text.clone(), item.content(&item.text));
        let object = item.object("completed", std::slice::from_ref(&content));
        let name = format!("response.{}.done", item.text_kind());
        let mut events: Vec<Value> = Vec::new();
        events.extend(self.of_text(&name, &json!({ "text": text })));
        let name = "response.content_part.done";
        events.extend(self.of_text(name, &json!({ "part": content })));
        let done = json!({ "output_index": self.items.len() - 1, "item": object });
        events.push(self.event("response.output_item.done", done));
        events
    }

    /// An event about the text of the last item, if there is one.
    fn of_text(&mut self, kind: &str, more: &Value) -> Option<Value> {
        let item = self.items.last()?;
        let mut event = json!({
            "item_id": item.id,
            "output_index": self.items.len() - 1,
            "content_index": 0,
        });
        if kind.starts_with("response.output_text") {
            event["logprobs"] = json!([]);
        }
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        Some(self.event(kind, event))
    }

    fn event(&mut self, kind: &str, fields: Value) -> Value {
        let mut event = Map::new();
        event.insert("type".into(), json!(kind));
        event.insert("sequence_number".into(), json!(self.n_events));
        self.n_events += 1;
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        Value::Object(event)
    }
}

fn new_id(prefix: &str) -> String {
    let id: u128 = rand::random();
    format!("{prefix}_{id:032x}")
}
