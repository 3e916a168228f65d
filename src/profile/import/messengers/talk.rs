//! A message of a chat, in the form that all formats are read into.

use super::stamp::Stamp;
use crate::error::is_mark;

/// Reasons to leave a message.
pub(super) const ATTACHMENT: &str = "an attachment without a text";
pub(super) const DELETED: &str = "a deleted message";
pub(super) const FORWARDED: &str = "a forwarded message";
pub(super) const BOT: &str = "a message of a bot";
pub(super) const CALL: &str = "a call";
pub(super) const NOTICE: &str = "a notice of the messenger";
pub(super) const PASTED: &str = "a message that a chat was pasted into";
pub(super) const QUOTED: &str = "nothing but quoted text";

/// An event of reading chats.
pub(super) enum TalkEvent {
    /// A conversation begins.
    Begins,
    /// A message.
    Talk(Talk),
}

/// A message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Talk {
    pub sender: Sender,
    /// Seconds since some day, the same one for all messages of a file.
    pub time: Option<i64>,
    /// The id by which others answer it.
    pub id: Option<String>,
    /// The id of the message that began the thread.
    pub thread: Option<String>,
    pub reply: ReplyTo,
    pub said: Said,
}

/// The one who sent a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sender {
    /// Whether the file tells that this is the one whose export it is.
    pub is_owner: bool,
    /// The id that tells people of one name apart.
    pub id: Option<String>,
    /// The names, the one that is shown first.
    pub names: Vec<String>,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    /// A message that is left, with the reason.
    Left(&'static str),
    /// A line of the messenger, which nobody said.
    Notice,
}

/// The message that another answers, as far as the file tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ReplyTo {
    /// Nothing in particular: what was said before.
    #[default]
    Latest,
    /// The message of this id.
    Id(String),
    /// This text.
    Text(String),
}

impl Sender {
    /// Somebody with this name alone.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            names: vec![name.into()],
            ..Self::default()
        }
    }

    /// The one whose words alone a file holds.
    pub fn sole() -> Self {
        Self {
            is_owner: true,
            ..Self::default()
        }
    }

    /// The one whose export a file is, where it does not tell a name.
    pub fn owner() -> Self {
        Self {
            is_owner: true,
            id: Some("the owner".to_owned()),
            ..Self::default()
        }
    }

    /// Whether a file holds the words of this one alone.
    pub fn is_sole(&self) -> bool {
        self.is_owner && self.key().is_empty()
    }

    /// The id, or else the name, by which the sender is told from others.
    pub fn key(&self) -> &str {
        let name = self.names.first().map_or("", String::as_str);
        self.id.as_deref().unwrap_or(name)
    }

    /// The name that is shown.
    pub fn name(&self) -> &str {
        self.names.first().map_or(self.key(), String::as_str)
    }
}

impl Talk {
    /// A message that says this.
    pub fn new(sender: Sender, time: Option<i64>, said: Said) -> Self {
        Self {
            sender,
            time,
            id: None,
            thread: None,
            reply: ReplyTo::Latest,
            said,
        }
    }
}

impl Said {
    /// A text, or the reason to leave it: `empty` if there is nothing in it.
    pub fn text(text: impl AsRef<str>, empty: &'static str) -> Self {
        let text: String = text.as_ref().chars().filter(|it| !is_mark(*it)).collect();
        let text = text.trim();
        if text.is_empty() {
            Self::Left(empty)
        } else {
            Self::Text(text.to_owned())
        }
    }
}

/// The user's own words of a text, and what it quotes. Messengers write a quotation as lines after `>`.
///
/// # Errors
///
/// The reason to leave the text: nothing in it is the user's own, or other people's messages were pasted into it.
pub(super) fn own_words(text: &str) -> Result<(String, Option<String>), &'static str> {
    if text.lines().any(Stamp::is_pasted) {
        return Err(PASTED);
    }
    let is_quoted = |line: &&str| {
        line.strip_prefix('>')
            .is_some_and(|it| it.is_empty() || it.starts_with([' ', '>']))
    };
    if !text.lines().any(|line| is_quoted(&line)) {
        return Ok((text.to_owned(), None));
    }
    let own: Vec<_> = text.lines().filter(|line| !is_quoted(line)).collect();
    let quoted = text.lines().filter(is_quoted);
    let quoted: Vec<_> = quoted
        .map(|line| line.trim_start_matches(['>', ' ']))
        .collect();
    let own = own.join("\n").trim().to_owned();
    if own.is_empty() {
        return Err(QUOTED);
    }
    let quoted = quoted.join("\n").trim().to_owned();
    Ok((own, Some(quoted).filter(|text| !text.is_empty())))
}

/// At most `n_bytes` bytes from the beginning of a text.
pub(super) fn beginning_of(text: &str, n_bytes: usize) -> &str {
    let mut end = text.len().min(n_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
