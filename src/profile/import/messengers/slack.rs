//! Channels of Slack's export: a folder for each, with a file for each day.
//!
//! ```text
//! users.json              [{"id": "U1", "name": …, "real_name": …, "profile": {"real_name": …, "display_name": …, "email": …}}]
//! general/2026-03-07.json [{"type": "message", "user": "U1", "text": …, "ts": "1772913600.000100", "thread_ts": …}]
//! ```
//!
//! The form is described in <https://slack.com/help/articles/220556107>, and messages in <https://api.slack.com/events/message>.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::talk::{ATTACHMENT, BOT, DELETED, Said, Sender, Talk};
use crate::profile::text_value::text_of;

/// Subtypes of messages that people write. All others are notices.
const WRITTEN: [&str; 4] = [
    "thread_broadcast",
    "file_share",
    "me_message",
    "file_comment",
];

/// The account of Slack itself.
const SLACKBOT: &str = "USLACKBOT";

/// Names of a person in their profile and beside it, the one that is shown first.
const PROFILE_NAMES: [&str; 4] = ["display_name", "real_name", "email", "name"];
const USER_NAMES: [&str; 2] = ["real_name", "name"];

/// Whether an object is a message of a channel.
pub(super) fn is_message(message: &Map<String, Value>) -> bool {
    let is = |name: &str| message.get(name).and_then(Value::as_str);
    is("type") == Some("message") && is("ts").is_some()
}

/// Whether an object is a person of `users.json`.
pub(super) fn is_user(user: &Map<String, Value>) -> bool {
    let is_profile = user.get("profile").is_some_and(Value::is_object);
    is_profile && user.contains_key("id") && user.contains_key("name")
}

/// The people of an export.
#[derive(Default)]
pub(super) struct SlackUsers(HashMap<String, Vec<String>>);

impl SlackUsers {
    /// Notes a person of `users.json`.
    pub fn note(&mut self, user: &Map<String, Value>) {
        if let Some(id) = user.get("id").and_then(text_of) {
            let names = names(user.get("profile"), Some(user));
            self.0.insert(id, names);
        }
    }

    /// Reads a message.
    pub fn talk(&self, message: &Map<String, Value>) -> Talk {
        let field = |name: &str| message.get(name).and_then(text_of);
        let subtype = field("subtype");
        let subtype = subtype.as_deref();
        let id = field("user");
        let is_bot = subtype == Some("bot_message")
            || message.contains_key("bot_id")
            || id.as_deref().is_none_or(|id| id == SLACKBOT);
        let known = id.as_ref().and_then(|id| self.0.get(id)).cloned();
        let sender = Sender {
            is_owner: false,
            names: known.unwrap_or_else(|| names(message.get("user_profile"), None)),
            id,
        };
        let said = match subtype {
            Some("tombstone") => Said::Left(DELETED),
            _ if is_bot => Said::Left(BOT),
            Some(subtype) if !WRITTEN.contains(&subtype) => Said::Notice,
            _ => Said::text(
                self.readable(&field("text").unwrap_or_default()),
                ATTACHMENT,
            ),
        };
        let time = field("ts").and_then(|it| it.split('.').next()?.parse().ok());
        let mut talk = Talk::new(sender, time, said);
        talk.id = field("ts");
        talk.thread = field("thread_ts");
        talk
    }

    /// A text with names for codes (`<@U1>`, `<#C1|general>`, `<!here>`), the texts of links, and without entities.
    fn readable(&self, text: &str) -> String {
        let mut readable = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            readable.push_str(before);
            let Some((code, after)) = after.split_once('>') else {
                // Slack writes `<` of the text itself as `&lt;`.
                readable.push('<');
                rest = after;
                continue;
            };
            readable.push_str(&self.decoded(code));
            rest = after;
        }
        readable.push_str(rest);
        readable
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&")
    }

    /// The text that a code between `<` and `>` stands for.
    fn decoded(&self, code: &str) -> String {
        let (target, label) = match code.split_once('|') {
            Some((target, label)) => (target, Some(label).filter(|it| !it.is_empty())),
            None => (code, None),
        };
        let person = |id: &str| {
            let name = self.0.get(id).and_then(|names| names.first());
            format!("@{}", label.or(name.map(String::as_str)).unwrap_or(id))
        };
        if let Some(id) = target.strip_prefix('@') {
            person(id)
        } else if let Some(id) = target.strip_prefix('#') {
            format!("#{}", label.unwrap_or(id))
        } else if let Some(group) = target.strip_prefix('!') {
            let label = label.unwrap_or(group.split('^').next().unwrap_or(group));
            format!("@{}", label.trim_start_matches('@'))
        } else {
            label
                .unwrap_or(target.trim_start_matches("mailto:"))
                .to_owned()
        }
    }
}

/// The names in a profile and beside it.
fn names(profile: Option<&Value>, user: Option<&Map<String, Value>>) -> Vec<String> {
    let of_profile = PROFILE_NAMES.iter().filter_map(|it| profile?.get(*it));
    let of_user = USER_NAMES.iter().filter_map(|it| user?.get(*it));
    let names = of_profile.chain(of_user).filter_map(text_of);
    let mut names: Vec<_> = names.filter(|it| !it.trim().is_empty()).collect();
    names.dedup();
    names
}
