//! Chats of Signal, in two forms: the export of Signal's own programs, whose lines are the frames of a backup, and
//! `data.json` of `sigexport`. For the latter's Markdown see `whatsapp.rs`.
//!
//! ```text
//! {"account": {"givenName": …}}
//! {"recipient": {"id": "1", "self": {}}}   {"recipient": {"id": "2", "contact": {"profileGivenName": …}}}
//! {"chatItem": {"chatId": "1", "authorId": "2", "dateSent": "1772913600000", "incoming": {…},
//!  "standardMessage": {"text": {"body": …}, "quote": {"authorId": …, "text": {"body": …}}}}}
//!
//! {"date": "2026-03-07T21:22:39", "sender": "Me", "body": …, "quote": …}
//! ```
//!
//! The forms are those of `Backups.proto` in <https://github.com/signalapp/Signal-Desktop> and of
//! <https://github.com/carderne/signal-export>.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::stamp::iso_time;
use super::talk::{ATTACHMENT, CALL, DELETED, ReplyTo, Said, Sender, Talk, TalkEvent};
use crate::profile::text_value::text_of;

/// Frames of a backup, each with a field in it.
const FRAMES: [(&str, &str); 4] = [
    ("account", "profileKey"),
    ("account", "givenName"),
    ("recipient", "id"),
    ("chatItem", "chatId"),
];

/// The name that `sigexport` gives to the owner.
const OWNER: &str = "Me";

/// Names of a person, the one that is shown first. Given and family names stand side by side.
const NAMES: [[&str; 2]; 4] = [
    ["nicknameGiven", "nicknameFamily"],
    ["systemGivenName", "systemFamilyName"],
    ["profileGivenName", "profileFamilyName"],
    ["givenName", "familyName"],
];

/// Whether an object is a line of Signal's own export.
pub(super) fn is_frame(frame: &Map<String, Value>) -> bool {
    let is_first = frame.contains_key("backupTimeMs") && frame.contains_key("version");
    let has = |(frame_name, field): &(&str, &str)| {
        let inner = frame.get(*frame_name);
        inner.is_some_and(|it| it.get(*field).is_some())
    };
    is_first || frame.len() == 1 && FRAMES.iter().any(has)
}

/// Whether an object is a message of `sigexport`.
pub(super) fn is_message(message: &Map<String, Value>) -> bool {
    ["date", "sender", "body", "reactions"]
        .iter()
        .all(|it| message.contains_key(*it))
}

/// A message of `sigexport`.
pub(super) fn talk(message: &Map<String, Value>) -> Talk {
    let field = |name: &str| message.get(name).and_then(text_of).unwrap_or_default();
    let is_set = |name: &str| message.get(name) == Some(&Value::Bool(true));
    let sender = match field("sender") {
        name if name == OWNER => Sender::owner(),
        name => Sender::named(name),
    };
    let said = if is_set("deleted") {
        Said::Left(DELETED)
    } else if is_set("call") || is_set("missed") {
        Said::Left(CALL)
    } else {
        Said::text(field("body"), ATTACHMENT)
    };
    let quote = field("quote");
    let quote = quote
        .lines()
        .map(|line| line.trim_start_matches(['>', ' ']));
    let quote = quote.collect::<Vec<_>>().join("\n").trim().to_owned();
    let mut talk = Talk::new(sender, iso_time(&field("date")), said);
    if !quote.is_empty() {
        talk.reply = ReplyTo::Text(quote);
    }
    talk
}

/// The reader of a backup's frames.
#[derive(Default)]
pub(super) struct SignalFrames {
    owner_names: Vec<String>,
    owner: Option<String>,
    people: HashMap<String, Vec<String>>,
}

impl SignalFrames {
    pub fn take(&mut self, frame: &Map<String, Value>, give: &mut dyn FnMut(TalkEvent)) {
        if let Some(account) = frame.get("account") {
            self.owner_names = names(account);
        } else if let Some(recipient) = frame.get("recipient") {
            self.note(recipient);
        } else if let Some(Value::Object(item)) = frame.get("chatItem") {
            give(TalkEvent::Talk(self.talk(item)));
        }
    }

    fn note(&mut self, recipient: &Value) {
        let Some(id) = recipient.get("id").and_then(text_of) else {
            return;
        };
        if recipient.get("self").is_some() {
            self.owner = Some(id);
        } else if let Some(contact) = recipient.get("contact") {
            self.people.insert(id, names(contact));
        }
    }

    fn talk(&self, item: &Map<String, Value>) -> Talk {
        let field = |name: &str| item.get(name).and_then(text_of);
        let author = field("authorId");
        let is_owner = item.contains_key("outgoing") || author.is_some() && author == self.owner;
        let names = match author.as_ref().and_then(|id| self.people.get(id)) {
            Some(names) if !is_owner => names.clone(),
            _ if is_owner => self.owner_names.clone(),
            _ => Vec::new(),
        };
        let sender = Sender {
            is_owner,
            id: author,
            names,
        };
        let message = item.get("standardMessage");
        let body = message.and_then(|it| it.get("text")?.get("body")?.as_str());
        let said = match message {
            Some(_) => Said::text(body.unwrap_or_default(), ATTACHMENT),
            None if item.contains_key("updateMessage") => Said::Notice,
            None if item.contains_key("remoteDeletedMessage") => Said::Left(DELETED),
            None => Said::Left(ATTACHMENT),
        };
        let time = field("dateSent").and_then(|it| it.parse::<i64>().ok());
        let mut talk = Talk::new(sender, time.map(|it| it / 1000), said);
        // The messages of all chats follow each other by time.
        talk.thread = field("chatId");
        let quote = message.and_then(|it| it.get("quote"));
        if let Some(text) = quote.and_then(|it| it.get("text")?.get("body")?.as_str()) {
            talk.reply = ReplyTo::Text(text.to_owned());
        }
        talk
    }
}

/// The names of a person, and their number.
fn names(person: &Value) -> Vec<String> {
    let field = |name: &&str| {
        person
            .get(*name)
            .and_then(text_of)
            .filter(|it| !it.is_empty())
    };
    let names = NAMES
        .iter()
        .map(|parts| parts.iter().filter_map(field).collect::<Vec<_>>().join(" "));
    let numbers = ["username", "e164"].iter().filter_map(field);
    names.filter(|it| !it.is_empty()).chain(numbers).collect()
}
