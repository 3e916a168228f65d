//! Chats of Telegram Desktop's export in JSON, of one chat or a whole account:
//!
//! ```text
//! {"name": …, "type": "personal_chat", "id": …, "messages": [{"id": …, "type": "message", "date_unixtime": …, "from": …,
//!  "from_id": "user1", "text": "…" or ["…", {"type": "bold", "text": "…"}]}]}
//! {"personal_information": {"user_id": …}, "chats": {"list": [such chats]}}
//! ```
//!
//! The form is that of <https://github.com/telegramdesktop/tdesktop>, `export_output_json.cpp`.

use serde_json::{Map, Value};

use super::json_walk::JsonEvent;
use super::stamp::iso_time;
use super::talk::{ATTACHMENT, BOT, FORWARDED, ReplyTo, Said, Sender, Talk, TalkEvent};
use crate::profile::text_value::text_of;

/// Fields of messages that were written elsewhere.
const FORWARDS: [&str; 4] = [
    "forwarded_from",
    "forwarded_from_id",
    "forwarded_date",
    "saved_from",
];

/// Whether an object is a message of such a chat.
pub(super) fn is_message(message: &Map<String, Value>) -> bool {
    let is_dated = message.contains_key("date") || message.contains_key("date_unixtime");
    let has_text = message.contains_key("text") || message.contains_key("text_entities");
    let has_sender = ["from", "from_id", "actor"]
        .iter()
        .any(|it| message.contains_key(*it));
    let kind = message.get("type").and_then(Value::as_str);
    is_dated && has_text && has_sender && matches!(kind, Some("message" | "service"))
}

/// Whether a field shows that the file is the export of a whole account.
pub(super) fn is_account(name: &str, value: &Value) -> bool {
    let is_about = || value.as_str().is_some_and(|it| it.contains("Telegram"));
    name == "about" && is_about() || is_owner(name, value)
}

/// Whether a field tells whose account it is.
fn is_owner(name: &str, value: &Value) -> bool {
    name == "personal_information" && value.get("user_id").is_some()
}

/// The reader of one file.
#[derive(Default)]
pub(super) struct Telegram {
    /// The id of the one whose account it is.
    owner: Option<String>,
}

impl Telegram {
    pub fn take(&mut self, event: JsonEvent, give: &mut dyn FnMut(TalkEvent)) {
        match event {
            JsonEvent::Begins => give(TalkEvent::Begins),
            JsonEvent::Field(name, value) if is_owner(&name, &value) => {
                self.owner = value
                    .get("user_id")
                    .and_then(text_of)
                    .map(|id| format!("user{id}"));
            }
            JsonEvent::Field(..) => {}
            JsonEvent::Message(message) => give(TalkEvent::Talk(self.talk(&message))),
        }
    }

    fn talk(&self, message: &Map<String, Value>) -> Talk {
        let field = |name: &str| message.get(name).and_then(text_of);
        let id = field("from_id").or_else(|| field("actor_id"));
        let sender = Sender {
            is_owner: id.is_some() && id == self.owner,
            names: field("from").into_iter().collect(),
            id,
        };
        let time = field("date_unixtime").and_then(|it| it.parse().ok());
        let time = time.or_else(|| iso_time(&field("date")?));
        let mut talk = Talk::new(sender, time, said(message));
        talk.id = field("id");
        talk.reply = match field("reply_to_message_id") {
            // The ids of another chat are numbers of their own.
            Some(id) if message.contains_key("reply_to_peer_id") => {
                ReplyTo::Id(format!("elsewhere {id}"))
            }
            Some(id) => ReplyTo::Id(id),
            None => ReplyTo::Latest,
        };
        talk
    }
}

fn said(message: &Map<String, Value>) -> Said {
    let kind = message.get("type").and_then(Value::as_str);
    if kind != Some("message") {
        return Said::Notice;
    }
    if FORWARDS.iter().any(|it| message.contains_key(*it)) {
        return Said::Left(FORWARDED);
    }
    if message.contains_key("via_bot") {
        return Said::Left(BOT);
    }
    let texts = ["text", "text_entities"]
        .iter()
        .filter_map(|it| message.get(*it));
    let texts = texts.map(joined);
    Said::text(
        texts
            .into_iter()
            .find(|it| !it.is_empty())
            .unwrap_or_default(),
        ATTACHMENT,
    )
}

/// The text of a field: a text, or a list of texts and formatted parts. What is quoted is marked as such.
fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => String::new(),
    }
}

fn part(part: &Value) -> String {
    let text = part.as_str().or_else(|| part.get("text")?.as_str());
    let text = text.unwrap_or_default();
    if part.get("type").and_then(Value::as_str) == Some("blockquote") {
        let lines = text.lines().map(|line| format!("> {line}\n"));
        return format!("\n{}", lines.collect::<String>());
    }
    text.to_owned()
}
