//! One user's history: what they were asked, and what they wrote.

pub mod feedback;
mod import;
mod lamp_task;
mod pair;

use std::collections::HashSet;

pub use import::{ImportOptions, Imported, Speaker, import, jsonl, lamp, sharegpt, text};
pub use lamp_task::{LampItem, LampTask};
pub use pair::{BaseLogps, Pair};
use serde::{Deserialize, Serialize};

use crate::message::{Message, Role};

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
    /// What is held out to measure on; never trained on.
    pub held_out: Vec<Example>,
}

/// The two parts of a [`Profile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryPart {
    /// [`Profile::history`].
    History,
    /// [`Profile::held_out`].
    HeldOut,
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
    pub fn add(&mut self, part: HistoryPart, examples: Vec<Example>) -> Added {
        let mut seen: HashSet<Example> =
            self.history.iter().chain(&self.held_out).cloned().collect();
        let list = match part {
            HistoryPart::History => &mut self.history,
            HistoryPart::HeldOut => &mut self.held_out,
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
