//! Messages of a chat, in the forms of `OpenAI`, `ShareGPT`, Anthropic and Gemini.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::object::{ANSWERERS, ASKERS, JsonObject, MASKS, WEIGHTS, shortened, wrong_type};
use crate::message::{Message, Role};
use crate::profile::text_value::{kind, text_of};

/// The speaker of a chat whose texts are imported as the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The one who answers. Chats of training sets hold answers as they should be.
    Assistant,
    /// The one who asks. In exports of `ChatGPT` the answers are a model's.
    Human,
}

/// Who a message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Party {
    System,
    Speaker(Speaker),
    /// A tool, or a call of one that stands as a message of its own.
    Tool,
    /// The assistant, who thinks.
    Thought,
    /// Somebody whose part in the chat the name does not tell.
    Unknown(String),
}

/// Whether a message is learnt, if it is the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learning {
    Learnt,
    /// The file says that it is not to be learnt.
    WeightZero,
    /// The file says that only a part of it is to be learnt.
    InPart,
    /// It is part of a prompt.
    Context,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub party: Party,
    pub text: String,
    /// Whether the message calls a tool.
    pub calls_tool: bool,
    pub learning: Learning,
    /// Parts of the message that were left, by the reasons of [`Imported::skipped`](super::super::Imported::skipped).
    pub left: Vec<String>,
}

/// The reason for what tools say and are told.
pub(super) const TOOL: &str = "a call of a tool or its result";

/// Fields that hold what a message says.
const CONTENTS: [&str; 4] = ["content", "value", "parts", "text"];

/// Fields that hold the calls of tools.
const CALL_FIELDS: [&str; 2] = ["tool_calls", "function_call"];

/// Texts with which models call tools, where a chat has no field for that.
const CALLS: [&str; 4] = [
    "<tool_call>",
    "<function_call>",
    "<functioncall>",
    "[TOOL_CALLS]",
];

/// The field in which Axolotl says which places of a message are learnt.
const DETAIL: &str = "train_detail";

/// The reason for thoughts that are not part of a text.
pub(super) const THOUGHT: &str = "a thought";

impl Party {
    /// The party of a name, in any case.
    pub fn of(name: &str) -> Self {
        let lower = name.trim().to_lowercase();
        match lower.as_str() {
            "system" | "developer" => Self::System,
            "human" | "user" | "prompter" => Self::Speaker(Speaker::Human),
            "assistant" | "model" | "bot" | "chatbot" | "ai" | "bing" | "bard" | "claude"
            | "gemini" => Self::Speaker(Speaker::Assistant),
            gpt if gpt.starts_with("gpt") || gpt.starts_with("chatgpt") => {
                Self::Speaker(Speaker::Assistant)
            }
            "tool" | "tools" | "tool_call" | "tool_response" | "tool_result" | "function"
            | "function_call" | "function-call" | "function_response" | "observation"
            | "ipython" => Self::Tool,
            _ => Self::Unknown(shortened(name.trim())),
        }
    }
}

impl Turn {
    /// A message with this text.
    pub fn said(party: Party, text: impl Into<String>) -> Self {
        Self {
            party,
            text: text.into(),
            calls_tool: false,
            learning: Learning::Learnt,
            left: Vec::new(),
        }
    }

    /// A message of the one who asks.
    pub fn asked(text: impl Into<String>) -> Self {
        Self::said(Party::Speaker(Speaker::Human), text)
    }

    /// A message of the one who answers.
    pub fn answered(text: impl Into<String>) -> Self {
        Self::said(Party::Speaker(Speaker::Assistant), text)
    }

    /// Whether an object is a message.
    pub fn is_in(object: &JsonObject) -> bool {
        let named = |name| object.given(name).is_some_and(Value::is_string);
        named("role") && (CONTENTS.iter().chain(&CALL_FIELDS)).any(|it| object.has(it))
            || named("from") && (object.has("value") || object.has("content"))
    }

    /// Reads a message; `place` says where it is: `messages[3]`.
    ///
    /// # Errors
    ///
    /// It has no speaker, or a field is of the wrong type.
    pub fn read(object: &JsonObject, place: &str) -> Result<Self, String> {
        let in_place = |name: &str| format!("{place}.{name}");
        if !Self::is_in(object) {
            return Err(format!(
                "{place} is {object}, where a message is needed ({{\"role\": …, \"content\": …}} or {{\"from\": …, \"value\": …}})"
            ));
        }
        let name = object.given("role").or(object.given("from"));
        let name = name.and_then(Value::as_str).unwrap_or_default();
        let content = CONTENTS.iter().find_map(|it| Some((it, object.given(it)?)));
        let mut turn = match content {
            Some((field, content)) => {
                Self::with_content(Party::of(name), content, &in_place(field))?
            }
            None => Self::said(Party::of(name), ""),
        };
        turn.calls_tool |= CALL_FIELDS
            .iter()
            .any(|it| object.given(it).is_some_and(is_filled));
        turn.learning = learning(object, place)?;
        if turn.is_of(Speaker::Assistant) {
            turn.speak_in(object.given("channel").and_then(Value::as_str));
        }
        Ok(turn)
    }

    /// Takes the assistant's message as one in this channel of the Harmony format.
    fn speak_in(&mut self, channel: Option<&str>) {
        match channel {
            Some("analysis") => self.party = Party::Thought,
            Some("commentary") => {
                self.calls_tool = true;
                self.text.clear();
            }
            _ => {}
        }
    }

    /// A message with this content: a text, a list of parts or one part.
    ///
    /// # Errors
    ///
    /// The content is of the wrong type; `place` says where it is.
    pub fn with_content(party: Party, content: &Value, place: &str) -> Result<Self, String> {
        let mut parts = Parts::default();
        parts.add(content, place)?;
        let mut turn = Self::said(party, parts.texts.join("\n"));
        turn.left = parts.left;
        turn.calls_tool = parts.has_call;
        match (parts.has_result, turn.text.trim().is_empty()) {
            (true, true) => turn.party = Party::Tool,
            (true, false) => turn.left.push(TOOL.into()),
            (false, _) => {}
        }
        let beginning = turn.text.trim_start();
        if CALLS.iter().any(|it| beginning.starts_with(it)) {
            turn.calls_tool = true;
            turn.text.clear();
        }
        Ok(turn)
    }

    /// The question and the answer of an object whose fields are named by their speakers.
    pub fn pair(object: &JsonObject) -> Option<[Self; 2]> {
        let text = |names: &[&str]| names.iter().find_map(|it| object.given(it)?.as_str());
        let (question, answer) = (text(&ASKERS)?, text(&ANSWERERS)?);
        Some([Self::asked(question), Self::answered(answer)])
    }

    /// Reads a list of messages that is the value of `name`.
    ///
    /// # Errors
    ///
    /// An element is no message.
    pub fn read_all(list: &[Value], name: &str) -> Result<Vec<Self>, String> {
        let mut turns = Vec::new();
        for (number, value) in list.iter().enumerate() {
            let place = format!("{name}[{number}]");
            let Value::Object(map) = value else {
                let kind = kind(value);
                return Err(format!("{place} is {kind}, where a message is needed"));
            };
            let object = map.clone().into();
            match Self::pair(&object) {
                Some(pair) if !Self::is_in(&object) => turns.extend(pair),
                _ => turns.push(Self::read(&object, &place)?),
            }
        }
        Ok(turns)
    }

    /// Whether the message comes from this speaker.
    pub fn is_of(&self, speaker: Speaker) -> bool {
        self.party == Party::Speaker(speaker)
    }
}

/// Whether a message is learnt, by the fields that tell it.
fn learning(object: &JsonObject, place: &str) -> Result<Learning, String> {
    let wrong = |field: &str, value, needed| wrong_type(&format!("{place}.{field}"), value, needed);
    let is_set = |field: &str| match object.given(field) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::Number(weight)) if weight.as_f64() >= Some(0.0) => {
            Ok(Some(weight.as_f64() != Some(0.0)))
        }
        Some(value) => Err(wrong(field, value, "0 or 1")),
    };
    let (weights, masks) = (WEIGHTS.map(|it| (it, false)), MASKS.map(|it| (it, true)));
    for (field, left) in weights.into_iter().chain(masks) {
        if is_set(field)? == Some(left) {
            return Ok(Learning::WeightZero);
        }
    }
    match object.given(DETAIL) {
        None => Ok(Learning::Learnt),
        Some(Value::Array(places)) => {
            let is_left = |place: &Value| place.get("train") == Some(&Value::Bool(false));
            Ok(if places.iter().any(is_left) {
                Learning::InPart
            } else {
                Learning::Learnt
            })
        }
        Some(value) => Err(wrong(DETAIL, value, "a list")),
    }
}

/// Whether the fields of a whole item say that it is not to be learnt. Other programs give these names to other values too,
/// which say nothing about that.
pub(super) fn is_weightless(object: &JsonObject) -> bool {
    let is_zero = |value: &Value| *value == Value::Bool(false) || value.as_f64() == Some(0.0);
    let is_true = |value: &Value| *value == Value::Bool(true);
    let given = |names: &[&str], holds: &dyn Fn(&Value) -> bool| {
        let mut values = names.iter().filter_map(|it| object.given(it));
        values.any(holds)
    };
    given(&WEIGHTS, &is_zero) || given(&MASKS, &is_true)
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.trim().is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(flag) => *flag,
        _ => false,
    }
}

/// The parts of a message's content.
#[derive(Default)]
struct Parts {
    texts: Vec<String>,
    has_call: bool,
    has_result: bool,
    left: Vec<String>,
}

impl Parts {
    /// Adds a content: a text, a list of parts or one part.
    fn add(&mut self, content: &Value, place: &str) -> Result<(), String> {
        match content {
            Value::Array(parts) => {
                for (number, part) in parts.iter().enumerate() {
                    let place = format!("{place}[{number}]");
                    match part {
                        Value::Object(part) => self.add_part(&part.clone().into(), &place)?,
                        Value::String(text) => self.texts.push(text.clone()),
                        Value::Null => {}
                        _ => return Err(wrong_type(&place, part, "a part of a message")),
                    }
                }
                Ok(())
            }
            Value::Object(part) => match part.get("parts") {
                Some(parts @ Value::Array(_)) => self.add(parts, &format!("{place}.parts")),
                _ => self.add_part(&part.clone().into(), place),
            },
            _ => {
                let wrong = || wrong_type(place, content, "a text or a list of parts");
                self.texts.push(text_of(content).ok_or_else(wrong)?);
                Ok(())
            }
        }
    }

    fn add_part(&mut self, part: &JsonObject, place: &str) -> Result<(), String> {
        let kind = part.given("type").and_then(Value::as_str);
        let is_thought = part.given("thought") == Some(&Value::Bool(true));
        match (kind, part.given("text")) {
            _ if is_thought => self.left.push(THOUGHT.into()),
            (None | Some("text" | "input_text" | "output_text"), Some(text)) => {
                // OpenAI's assistants and LibreChat put the text into an object.
                let text = text.get("value").unwrap_or(text);
                let wrong = || wrong_type(&format!("{place}.text"), text, "a text");
                self.texts.push(text_of(text).ok_or_else(wrong)?);
            }
            (Some("token_budget"), _) => {}
            (Some("text"), None) => return Err(format!("{place} has no \"text\"")),
            (Some("tool_use" | "tool_call" | "function_call" | "server_tool_use"), _) => {
                self.has_call = true;
            }
            (Some("tool_result" | "function_response"), _) => self.has_result = true,
            (Some("thinking" | "redacted_thinking" | "reasoning" | "thought" | "think"), _) => {
                self.left.push(THOUGHT.into());
            }
            (Some(kind), _) => {
                let kind = shortened(kind);
                self.left.push(format!("a part that is no text ({kind:?})"));
            }
            (None, None) if part.has("functioncall") => self.has_call = true,
            (None, None) if part.has("functionresponse") => self.has_result = true,
            (None, None) => self.left.push("a part that is no text".into()),
        }
        Ok(())
    }
}

/// Messages in `ShareGPT`'s format.
pub fn sharegpt(messages: &[Message]) -> Value {
    let turn = |message: &Message| {
        let from = match message.role {
            Role::System => "system",
            Role::User => "human",
            Role::Assistant => "gpt",
        };
        json!({ "from": from, "value": message.content })
    };
    messages.iter().map(turn).collect()
}
