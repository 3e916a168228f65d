//! The posts and messages of a person on X, from the archive that it sends: `data/tweets.js`, `data/note-tweet.js` and
//! `data/direct-messages.js`, JSON after `window.YTD.tweets.part0 = `.
//!
//! ```text
//! [{"tweet": {"id_str": …, "full_text": …, "created_at": "Sat Mar 07 21:22:39 +0000 2026", "in_reply_to_status_id_str": …,
//!   "entities": {"urls": [{"url": …, "expanded_url": …}], "media": [{"url": …}]}}}]
//! [{"noteTweet": {"createdAt": …, "core": {"text": …}}}]
//! [{"dmConversation": {"conversationId": "1-2", "messages": [{"messageCreate": {"senderId": …, "text": …, "createdAt": …}}]}}]
//! ```
//!
//! The fields are those of `README.txt` in such archives.

use serde_json::{Map, Value};

use super::stamp::{day_number, iso_time};
use super::talk::{ATTACHMENT, FORWARDED, Said, Sender, Talk, TalkEvent};
use crate::profile::text_value::text_of;

/// The reason for a post whose text goes on elsewhere.
const CUT_OFF: &str = "a post that is cut off here";

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A file of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XFile {
    Posts,
    LongPosts,
    Messages,
}

impl XFile {
    /// The kind of a file that begins so.
    pub fn of(beginning: &str) -> Option<Self> {
        let name = beginning.trim_start().strip_prefix("window.YTD.")?;
        match name.split('.').next()? {
            "tweet" | "tweets" | "community_tweet" => Some(Self::Posts),
            "note_tweet" => Some(Self::LongPosts),
            "direct_message"
            | "direct_messages"
            | "direct_message_group"
            | "direct_messages_group" => Some(Self::Messages),
            _ => None,
        }
    }
}

/// The id of the account in an element of `account.js`, and its names.
pub(super) fn account(element: &Map<String, Value>) -> Option<Sender> {
    let account = element.get("account")?;
    let field = |name: &str| account.get(name).and_then(text_of);
    let names = ["accountDisplayName", "username", "email"];
    Some(Sender {
        is_owner: true,
        id: Some(field("accountId")?),
        names: names.into_iter().filter_map(field).collect(),
    })
}

/// A post. Those of others between two posts are not in the archive.
pub(super) fn post(element: &Map<String, Value>, give: &mut dyn FnMut(TalkEvent)) {
    let wrapped = element.get("tweet").and_then(Value::as_object);
    let post = wrapped.unwrap_or(element);
    let field = |name: &str| post.get(name).and_then(text_of);
    let text = field("full_text")
        .or_else(|| field("text"))
        .unwrap_or_default();
    let id = field("id_str").or_else(|| field("id")).unwrap_or_default();
    let entities = post.get("entities");
    let links = entities.and_then(|it| it.get("urls"));
    let is_rest = |link: &Value| {
        let target = link.get("expanded_url").and_then(Value::as_str);
        !id.is_empty() && target.is_some_and(|it| it.ends_with(&format!("/i/web/status/{id}")))
    };
    let said = if text.starts_with("RT @") {
        Said::Left(FORWARDED)
    } else if listed(links).any(is_rest) {
        Said::Left(CUT_OFF)
    } else {
        let is_reply = post.contains_key("in_reply_to_status_id_str")
            || post.contains_key("in_reply_to_status_id");
        let mut text = with_links(text, links);
        for media in ["entities", "extended_entities"]
            .iter()
            .filter_map(|it| post.get(*it)?.get("media"))
        {
            text = without_media(text, media);
        }
        let text = unescaped(&text);
        Said::text(
            if is_reply {
                without_names(&text)
            } else {
                &text
            },
            ATTACHMENT,
        )
    };
    let time = field("created_at").and_then(|it| post_time(&it));
    give(TalkEvent::Begins);
    give(TalkEvent::Talk(Talk::new(Sender::sole(), time, said)));
}

/// A long post.
pub(super) fn long_post(element: &Map<String, Value>, give: &mut dyn FnMut(TalkEvent)) {
    let Some(post) = element.get("noteTweet") else {
        return;
    };
    let text = post.get("core").and_then(|it| it.get("text")?.as_str());
    let text = unescaped(text.unwrap_or_default());
    let said = Said::text(without_names(&text), ATTACHMENT);
    let time = post.get("createdAt").and_then(|it| iso_time(it.as_str()?));
    give(TalkEvent::Begins);
    give(TalkEvent::Talk(Talk::new(Sender::sole(), time, said)));
}

/// A direct message; `owner` is the one whose archive it is, if that is known.
pub(super) fn message(element: &Map<String, Value>, owner: Option<&Sender>) -> Option<Talk> {
    let message = element.get("messageCreate")?;
    let field = |name: &str| message.get(name).and_then(text_of);
    let id = field("senderId")?;
    let owner = owner.filter(|it| it.id.as_ref() == Some(&id));
    let sender = owner.cloned().unwrap_or_else(|| Sender {
        is_owner: false,
        names: vec![id.clone()],
        id: Some(id),
    });
    let links = message.get("urls").map(|urls| {
        let links = listed(Some(urls)).map(|it| {
            let field = |name: &str| it.get(name).cloned().unwrap_or_default();
            serde_json::json!({ "url": field("url"), "expanded_url": field("expanded") })
        });
        links.collect::<Value>()
    });
    let text = with_links(field("text").unwrap_or_default(), links.as_ref());
    let time = field("createdAt").and_then(|it| iso_time(&it));
    let said = Said::text(unescaped(&text), ATTACHMENT);
    Some(Talk::new(sender, time, said))
}

fn listed(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

/// A text with the addresses that its short links stand for.
fn with_links(mut text: String, links: Option<&Value>) -> String {
    for link in listed(links) {
        let field = |name: &str| {
            link.get(name)
                .and_then(Value::as_str)
                .filter(|it| !it.is_empty())
        };
        if let (Some(url), Some(target)) = (field("url"), field("expanded_url")) {
            text = text.replace(url, target);
        }
    }
    text
}

/// A text without the links to its pictures.
fn without_media(mut text: String, media: &Value) -> String {
    for media in listed(Some(media)) {
        if let Some(url) = media
            .get("url")
            .and_then(Value::as_str)
            .filter(|it| !it.is_empty())
        {
            text = text.replace(url, "");
        }
    }
    text
}

/// A reply without the names at its beginning, which the program writes.
fn without_names(text: &str) -> &str {
    let mut text = text.trim_start();
    while let Some(name) = text.strip_prefix('@') {
        let end = name.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        text = end.map_or("", |end| name[end..].trim_start());
    }
    text
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// Seconds since 1970 of `Sat Mar 07 21:22:39 +0000 2026`.
fn post_time(text: &str) -> Option<i64> {
    let parts: Vec<_> = text.split_whitespace().collect();
    let [_, month, day, clock, _, year] = parts.as_slice() else {
        return iso_time(text);
    };
    let month = MONTHS.iter().position(|it| it == month)?;
    let month = u32::try_from(month + 1).ok()?;
    let clock = super::stamp::clock(clock)?;
    Some(day_number(year.parse().ok()?, month, day.parse().ok()?) * 86_400 + i64::from(clock))
}
