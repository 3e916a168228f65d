//! Chats of Discord, in two forms: the user's own messages in the package that Discord sends on request, and the channels
//! that `DiscordChatExporter` writes.
//!
//! ```text
//! messages/c1/messages.json  [{"ID": …, "Timestamp": "2026-03-01 10:00:00", "Contents": "…", "Attachments": ""}]
//! messages/c1/messages.csv   ID,Timestamp,Contents,Attachments
//! channel.json               {"guild": {…}, "channel": {…}, "messages": [{"id": …, "type": "Reply", "timestamp": …,
//!                             "content": "…", "author": {"id": …, "name": …, "nickname": …, "isBot": false},
//!                             "mentions": […], "reference": {"messageId": …}}]}
//! channel.csv                AuthorID,Author,Date,Content,Attachments,Reactions
//! ```
//!
//! The second form is that of <https://github.com/Tyrrrz/DiscordChatExporter>.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::stamp::iso_time;
use super::talk::{ATTACHMENT, BOT, FORWARDED, ReplyTo, Said, Sender, Talk, TalkEvent};
use crate::profile::text_value::text_of;

/// The columns of the package's tables, and of those that `DiscordChatExporter` writes.
const OWN_COLUMNS: [&str; 3] = ["ID", "Timestamp", "Contents"];
const CHANNEL_COLUMNS: [&str; 4] = ["AuthorID", "Author", "Date", "Content"];

/// Fields beside the messages of a channel.
pub(super) const BESIDE: [&str; 2] = ["guild", "channel"];

/// Kinds of messages that people write.
const WRITTEN: [&str; 5] = ["Default", "Reply", "ThreadStarterMessage", "0", "19"];

/// Whether an object is a message of the package.
pub(super) fn is_own(message: &Map<String, Value>) -> bool {
    OWN_COLUMNS.iter().all(|it| message.contains_key(*it))
}

/// Whether an object is a message of a channel.
pub(super) fn is_of_channel(message: &Map<String, Value>) -> bool {
    let author = message.get("author").and_then(|it| it.get("name"));
    author.is_some() && message.contains_key("content") && message.contains_key("type")
}

/// Whether a text begins as one of the tables.
pub(super) fn is_table(beginning: &str) -> bool {
    let header = beginning
        .lines()
        .next()
        .unwrap_or_default()
        .replace('"', "");
    let columns: Vec<_> = header.split(',').collect();
    columns.starts_with(&OWN_COLUMNS) || columns.starts_with(&CHANNEL_COLUMNS)
}

/// A message of the package. Others may have spoken between two of these.
pub(super) fn own(message: &Map<String, Value>, give: &mut dyn FnMut(TalkEvent)) {
    let field = |name: &str| message.get(name).and_then(text_of).unwrap_or_default();
    give_own(&field("Timestamp"), &field("Contents"), give);
}

fn give_own(time: &str, contents: &str, give: &mut dyn FnMut(TalkEvent)) {
    give(TalkEvent::Begins);
    let contents = readable(contents, &HashMap::new());
    let said = Said::text(contents, ATTACHMENT);
    give(TalkEvent::Talk(Talk::new(
        Sender::sole(),
        iso_time(time),
        said,
    )));
}

/// A row of one of the tables.
pub(super) fn row(row: &csv::StringRecord, is_own: bool, give: &mut dyn FnMut(TalkEvent)) {
    let field = |at: usize| row.get(at).unwrap_or_default();
    if is_own {
        return give_own(field(1), field(2), give);
    }
    let sender = Sender {
        is_owner: false,
        id: Some(field(0).to_owned()),
        names: vec![field(1).to_owned()],
    };
    let said = Said::text(field(3), ATTACHMENT);
    give(TalkEvent::Talk(Talk::new(sender, iso_time(field(2)), said)));
}

/// A message of a channel.
pub(super) fn of_channel(message: &Map<String, Value>) -> Talk {
    let field = |name: &str| message.get(name).and_then(text_of);
    let author = message.get("author");
    let of_author = |name: &str| author?.get(name).and_then(text_of);
    let mut names: Vec<_> = ["nickname", "name"]
        .into_iter()
        .filter_map(of_author)
        .collect();
    names.dedup();
    let sender = Sender {
        is_owner: false,
        id: of_author("id"),
        names,
    };
    let is_bot = author.and_then(|it| it.get("isBot")) == Some(&Value::Bool(true));
    let reference = message.get("reference").filter(|it| it.is_object());
    let is_forward = |it: &Value| it.get("type").and_then(Value::as_str) == Some("Forward");
    let said = match field("type") {
        Some(kind) if !WRITTEN.contains(&kind.as_str()) => Said::Notice,
        _ if is_bot => Said::Left(BOT),
        _ if reference.is_some_and(is_forward) || message.contains_key("forwardedMessage") => {
            Said::Left(FORWARDED)
        }
        _ => {
            let people = mentioned(message.get("mentions"));
            Said::text(
                readable(&field("content").unwrap_or_default(), &people),
                ATTACHMENT,
            )
        }
    };
    let mut talk = Talk::new(
        sender,
        field("timestamp").and_then(|it| iso_time(&it)),
        said,
    );
    talk.id = field("id");
    let answered = reference
        .and_then(|it| it.get("messageId"))
        .and_then(text_of);
    talk.reply = answered.map_or(ReplyTo::Latest, ReplyTo::Id);
    talk
}

/// The names of the people whom a message mentions, by their ids.
fn mentioned(mentions: Option<&Value>) -> HashMap<String, String> {
    let mentions = mentions.and_then(Value::as_array).into_iter().flatten();
    let named = mentions.filter_map(|it| {
        let name = it.get("nickname").or_else(|| it.get("name"))?;
        Some((it.get("id").and_then(text_of)?, text_of(name)?))
    });
    named.collect()
}

/// A text with names for Discord's codes of people and emojis: `<@12>`, `<:wave:34>`. Codes of unknown people are left out.
fn readable(text: &str, people: &HashMap<String, String>) -> String {
    let mut readable = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        readable.push_str(before);
        let code = after.split_once('>').filter(|(code, _)| is_code(code));
        let Some((code, after)) = code else {
            readable.push('<');
            rest = after;
            continue;
        };
        let id = code.trim_start_matches(['@', '!', '&', '#']);
        if let Some((_, name)) = code.split_once(':') {
            let name = name.split(':').next().unwrap_or_default();
            readable.extend([":", name, ":"]);
        } else if let Some(name) = people.get(id) {
            readable.extend(["@", name]);
        }
        rest = after;
    }
    readable + rest
}

/// Whether the text between `<` and `>` is a code of Discord's.
fn is_code(code: &str) -> bool {
    let id = code.trim_start_matches(['@', '!', '&', '#']);
    let is_id = |id: &str| !id.is_empty() && id.bytes().all(|it| it.is_ascii_digit());
    let emoji = code.strip_prefix("a:").or(code.strip_prefix(':'));
    let is_emoji = |it: &str| {
        it.split_once(':').is_some_and(|(name, id)| {
            is_id(id) && name.chars().all(|it| it.is_alphanumeric() || it == '_')
        })
    };
    id.len() < code.len() && is_id(id) || emoji.is_some_and(is_emoji)
}
