//! One user's history: what they were asked, and what they wrote.

mod chats;
mod csv;
pub mod feedback;
mod git;
mod import;
mod imported;
pub mod jsonl;
pub mod lamp;
mod mail;
mod pair;
mod posts;
pub mod text;

use std::collections::HashSet;
use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::Path;

pub use chats::{Speaker, sharegpt};
pub use import::{ImportOptions, import};
pub use imported::Imported;
pub use pair::{BaseLogps, Pair};
use serde::{Deserialize, Serialize};

use crate::prompt::{Message, Role};
use crate::{Error, Result};

/// Files above this are refused: a lifetime of writing is smaller, and a file is read as a whole.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Texts above this are refused: no context holds as much.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// One occasion: the messages that led to it, and what the user wrote. Stored as a line of chat `messages` of which
/// the last is the response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Conversation", into = "Conversation")]
pub struct Example {
    /// What comes before; the last message is of [`Role::User`].
    pub prompt: Vec<Message>,
    /// What the user wrote.
    pub response: String,
}

/// The stored form of an [`Example`].
#[derive(Clone, Serialize, Deserialize)]
struct Conversation {
    messages: Vec<Message>,
}

impl Example {
    /// An example of one question and its answer.
    pub fn new(prompt: impl Into<String>, response: impl Into<String>) -> Self {
        Self {
            prompt: vec![Message::user(prompt)],
            response: response.into(),
        }
    }

    /// Gives the example back when it can be trained on.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without the place where it stood.
    fn checked(self) -> Result<Self, String> {
        if self
            .prompt
            .last()
            .is_none_or(|message| message.role != Role::User)
        {
            return Err("an answer has no user message before it".into());
        }
        if self
            .prompt
            .iter()
            .any(|message| message.content.trim().is_empty())
        {
            return Err("a message of the prompt is empty".into());
        }
        if self.response.trim().is_empty() {
            return Err("the response is empty".into());
        }
        let bytes = self.response.len()
            + self
                .prompt
                .iter()
                .map(|message| message.content.len())
                .sum::<usize>();
        if bytes > MAX_TEXT_BYTES {
            return Err(format!(
                "{bytes} bytes of text are too much for one item (at most {MAX_TEXT_BYTES})"
            ));
        }
        Ok(self)
    }
}

impl From<Example> for Conversation {
    fn from(example: Example) -> Self {
        let mut messages = example.prompt;
        messages.push(Message::assistant(example.response));
        Self { messages }
    }
}

impl TryFrom<Conversation> for Example {
    type Error = String;

    fn try_from(conversation: Conversation) -> Result<Self, String> {
        let mut prompt = conversation.messages;
        match prompt.pop() {
            Some(Message {
                role: Role::Assistant,
                content,
            }) => Self {
                prompt,
                response: content,
            }
            .checked(),
            _ => Err("the last message is not the assistant's".into()),
        }
    }
}

/// Everything that is known of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What the model is trained on, oldest first.
    pub history: Vec<Example>,
    /// What is kept apart to measure on; never trained on.
    pub kept_apart: Vec<Example>,
}

/// The two parts of a [`Profile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`Profile::history`].
    History,
    /// [`Profile::kept_apart`].
    KeptApart,
}

/// What became of the examples that were to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// How many are new.
    pub new: usize,
    /// How many were there already, in either part.
    pub known: usize,
}

impl Profile {
    /// Adds those of `examples` that neither part has yet: what is trained on must not be measured on.
    pub fn add(&mut self, part: Part, examples: Vec<Example>) -> Added {
        let mut seen: HashSet<Example> = self
            .history
            .iter()
            .chain(&self.kept_apart)
            .cloned()
            .collect();
        let list = match part {
            Part::History => &mut self.history,
            Part::KeptApart => &mut self.kept_apart,
        };
        let mut added = Added::default();
        for example in examples {
            if seen.insert(example.clone()) {
                list.push(example);
                added.new += 1;
            } else {
                added.known += 1;
            }
        }
        added
    }
}

/// The newest `n` items of a history, oldest first.
#[must_use]
pub fn newest(history: &[Example], n: usize) -> &[Example] {
    &history[history.len().saturating_sub(n)..]
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = listed.map_err(Error::io("read", folder))?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// The whole of a file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(malformed(
            path,
            format_args!("is larger than {} MiB; split it", MAX_FILE_BYTES >> 20),
        ));
    }
    Ok(bytes)
}

/// The text of `bytes`, without a byte-order mark.
fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.split(|&byte| byte == b'\n').count();
        malformed(
            path,
            format_args!(
                "line {line} is not valid UTF-8 (byte {} of the file)",
                good.len() + 1
            ),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// An error about the content of `path`.
fn malformed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Input(format!("{}: {what}", path.display()))
}
