//! Users' profiles: the examples of what a user was asked and what they wrote, and the importers that read them from files.

pub mod feedback;
mod import;
mod lamp_task;
mod pair;
mod secrets;
mod text_value;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

pub use import::{
    ImportOption, ImportOptions, Imported, Speaker, TakenSide, import, import_all, json, lamp,
    sharegpt, text,
};
pub use lamp_task::{LampItem, LampTask};
pub use pair::{BaseLogps, Pair};
pub use secrets::{Contact, Masked, Masking};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::message::{Message, Role};
use crate::thought::without_thoughts;

/// The largest example, in bytes of its texts together; no context has room for more.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// One example of a user's writing: the messages before it, and the user's response. In files it is a JSON object whose
/// `messages` end with the response:
///
/// ```
/// use cope_llama::profile::Example;
///
/// let line = r#"{"messages":[{"role":"user","content":"How are you?"},{"role":"assistant","content":"Splendid!"}]}"#;
/// let example: Example = serde_json::from_str(line)?;
/// assert_eq!(example, Example::new("How are you?", "Splendid!"));
/// assert_eq!(serde_json::to_string(&example)?, line);
/// # serde_json::Result::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Conversation", into = "Conversation")]
pub struct Example {
    /// The messages before the response; the last one is of [`Role::User`].
    pub prompt: Vec<Message>,
    /// The text that the user wrote.
    pub response: String,
}

/// The stored form of an [`Example`].
#[derive(Clone, Serialize, Deserialize)]
struct Conversation {
    messages: Vec<Message>,
}

impl Example {
    /// An example with one user message and the response to it.
    pub fn new(prompt: impl Into<String>, response: impl Into<String>) -> Self {
        Self {
            prompt: vec![Message::user(prompt)],
            response: response.into(),
        }
    }

    /// A short name: the beginning of the SHA-256 of the texts, in hexadecimal. It stays the same while the texts do.
    #[must_use]
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        for text in self.texts() {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        let hash = hash.finalize();
        let beginning = hash.iter().take(5);
        let beginning = beginning.fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        format!("{beginning:010x}")
    }

    /// Whether one of the texts holds this text, in upper or lower case.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.texts().any(|it| it.to_lowercase().contains(&text))
    }

    /// The length of all texts together.
    fn n_bytes(&self) -> usize {
        self.texts().map(String::len).sum()
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        let messages = self.prompt.iter().map(|message| &message.content);
        messages.chain([&self.response])
    }

    /// All texts: the messages of the prompt, and the response.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let messages = self.prompt.iter_mut().map(|message| &mut message.content);
        messages.chain([&mut self.response])
    }

    /// Cuts the thoughts of a model from the response and from the messages before it, whichever speaker is the user. Returns
    /// whether there were any.
    fn cut_thoughts(&mut self) -> bool {
        let messages = self.prompt.iter_mut();
        let messages = messages.filter(|message| message.role != Role::System);
        let texts = messages.map(|message| &mut message.content);
        let mut is_cut = false;
        for text in texts.chain([&mut self.response]) {
            while let Some(rest) = without_thoughts(text) {
                *text = rest;
                is_cut = true;
            }
        }
        is_cut
    }

    /// Returns the example if it can be trained on.
    ///
    /// # Errors
    ///
    /// A description of what is wrong, without the place in a file.
    fn checked(self) -> Result<Self, String> {
        if self
            .prompt
            .last()
            .is_none_or(|message| message.role != Role::User)
        {
            return Err("a response has no user message before it".into());
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
        let bytes = self.n_bytes();
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

/// The texts of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The examples to train on, oldest first.
    pub history: Vec<Example>,
    /// The held-out examples: the adapter is measured on them and never trained on them.
    pub held_out: Vec<Example>,
}

/// One of the two parts of a [`Profile`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryPart {
    /// [`Profile::history`].
    #[default]
    History,
    /// [`Profile::held_out`].
    HeldOut,
}

/// The result of [`Profile::add`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The number of examples that were added.
    pub new: usize,
    /// The number of examples that were in one of the two parts already.
    pub known: usize,
}

impl Profile {
    /// Cuts the thoughts of a model from all texts, as an import does, and drops the examples that are nothing else. Returns the
    /// number of examples that had any: earlier versions stored them.
    pub fn cut_thoughts(&mut self) -> usize {
        let mut n_cut = 0;
        for list in [&mut self.history, &mut self.held_out] {
            list.retain_mut(|example| {
                let is_cut = example.cut_thoughts();
                n_cut += usize::from(is_cut);
                !is_cut || example.clone().checked().is_ok()
            });
        }
        n_cut
    }

    /// Adds those of `examples` that neither part has yet, so that no example is both trained and measured on.
    pub fn add(&mut self, part: HistoryPart, examples: Vec<Example>) -> Added {
        // Hashes take far less memory than the texts. Among a million texts, two have the same hash with a probability of less
        // than one to ten million.
        let hasher = RandomState::new();
        let known = self.history.iter().chain(&self.held_out);
        let mut seen: HashSet<u64> = known.map(|example| hasher.hash_one(example)).collect();
        let list = match part {
            HistoryPart::History => &mut self.history,
            HistoryPart::HeldOut => &mut self.held_out,
        };
        let mut added = Added::default();
        for example in examples {
            if seen.insert(hasher.hash_one(&example)) {
                list.push(example);
                added.new += 1;
            } else {
                added.known += 1;
            }
        }
        added
    }
}

/// The newest `n` examples of a history, oldest first.
#[must_use]
pub fn newest(history: &[Example], n: usize) -> &[Example] {
    &history[history.len().saturating_sub(n)..]
}
