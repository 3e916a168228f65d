//! Chats of other programs: in `ShareGPT`'s format, and as `ChatGPT` exports them.
//!
//! ```text
//! ShareGPT   {"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}
//! ChatGPT    {"title": …, "current_node": …, "mapping": {id: {"parent": …, "message": {"author": {"role": …},
//!             "content": {"content_type": "text", "parts": […]}}}}}
//! ```

use std::collections::{HashMap, HashSet};
use std::path::Path;

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Imported;
use super::source::{malformed, utf8};
use crate::Result;
use crate::message::{Message, Role};
use crate::profile::Example;

/// The speaker of a chat whose texts are imported as the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Speaker {
    /// The one who answers. Files in `ShareGPT`'s format hold answers as they should be.
    Assistant,
    /// The one who asks. In exports of `ChatGPT` the answers are a model's.
    Human,
}

#[derive(Deserialize)]
struct ShareGpt {
    conversations: Vec<ChatTurn>,
}

#[derive(Deserialize)]
struct ChatTurn {
    from: String,
    value: String,
}

#[derive(Deserialize)]
struct ChatGpt {
    title: Option<String>,
    current_node: Option<String>,
    mapping: HashMap<String, Node>,
}

#[derive(Deserialize)]
struct Node {
    parent: Option<String>,
    message: Option<NodeMessage>,
}

#[derive(Deserialize)]
struct NodeMessage {
    author: Author,
    content: Content,
}

#[derive(Deserialize)]
struct Author {
    role: String,
}

#[derive(Deserialize)]
struct Content {
    content_type: String,
    #[serde(default)]
    parts: Vec<Value>,
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

/// The examples of a JSON file that holds a list of chats; `None` when it holds something else.
///
/// # Errors
///
/// [`crate::Error::Input`] when a chat is malformed.
pub fn parse(path: &Path, bytes: &[u8], speaker: Option<Speaker>) -> Result<Option<Imported>> {
    let Ok(Value::Array(chats)) = serde_json::from_str(utf8(path, bytes)?) else {
        return Ok(None);
    };
    if !chats.first().is_some_and(is_chat) {
        return Ok(None);
    }
    let mut imported = Imported::default();
    for (number, chat) in (1..).zip(chats) {
        add(chat, speaker, &mut imported)
            .map_err(|error| malformed(path, format_args!("chat {number}: {error}")))?;
    }
    Ok(Some(imported))
}

/// The examples of a file with one chat per line; `None` when its first line holds something else.
///
/// # Errors
///
/// [`crate::Error::Input`] when a chat is malformed.
pub fn parse_lines(
    path: &Path,
    bytes: &[u8],
    speaker: Option<Speaker>,
) -> Result<Option<Imported>> {
    let lines = (1..).zip(utf8(path, bytes)?.lines());
    let mut lines = lines.filter(|(_, line)| !line.trim().is_empty()).peekable();
    let first = lines
        .peek()
        .and_then(|(_, line)| serde_json::from_str(line).ok());
    if !first.as_ref().is_some_and(is_chat) {
        return Ok(None);
    }
    let mut imported = Imported::default();
    for (number, line) in lines {
        serde_json::from_str(line)
            .and_then(|chat| add(chat, speaker, &mut imported))
            .map_err(|error| malformed(path, format_args!("line {number}: {error}")))?;
    }
    Ok(Some(imported))
}

fn is_chat(value: &Value) -> bool {
    value.get("conversations").is_some() || value.get("mapping").is_some()
}

/// Adds the examples of one chat.
fn add(chat: Value, speaker: Option<Speaker>, imported: &mut Imported) -> serde_json::Result<()> {
    if chat.get("mapping").is_some() {
        let chat: ChatGpt = serde_json::from_value(chat)?;
        let speaker = speaker.unwrap_or(Speaker::Human);
        let turns = turns(&chat);
        // When the speaker begins the chat, the title replaces the missing prompt.
        let speaker_begins = turns.first().is_some_and(|turn| turn.0 == speaker);
        let title = chat.title.filter(|_| speaker_begins);
        let before = title.map(|title| Message::user(format!("Start a chat about \"{title}\".")));
        add_turns(&turns, before.into_iter().collect(), speaker, imported);
        return Ok(());
    }
    let chat: ShareGpt = serde_json::from_value(chat)?;
    let (mut before, mut turns) = (Vec::new(), Vec::new());
    for ChatTurn { from, value } in chat.conversations {
        match from.as_str() {
            "system" => before.push(Message::system(value)),
            "human" | "user" => turns.push((Speaker::Human, value)),
            "gpt" | "assistant" | "chatgpt" | "model" => turns.push((Speaker::Assistant, value)),
            _ => {}
        }
    }
    add_turns(
        &turns,
        before,
        speaker.unwrap_or(Speaker::Assistant),
        imported,
    );
    Ok(())
}

/// The turns on the path from the root to the newest message. A chat in which messages were edited has other branches,
/// which are left out.
fn turns(chat: &ChatGpt) -> Vec<(Speaker, String)> {
    let mut turns = Vec::new();
    let mut seen = HashSet::new();
    let mut next = chat.current_node.as_deref();
    while let Some(id) = next.filter(|id| seen.insert(*id)) {
        let Some(node) = chat.mapping.get(id) else {
            break;
        };
        next = node.parent.as_deref();
        let Some(message) = &node.message else {
            continue;
        };
        let who = match message.author.role.as_str() {
            "user" => Speaker::Human,
            "assistant" => Speaker::Assistant,
            _ => continue,
        };
        if message.content.content_type == "text" {
            let parts = message.content.parts.iter().filter_map(Value::as_str);
            turns.push((who, parts.collect::<Vec<_>>().join("\n").trim().to_owned()));
        }
    }
    turns.reverse();
    turns
}

/// Adds each of the speaker's turns as a response to all turns before it.
fn add_turns(
    turns: &[(Speaker, String)],
    mut before: Vec<Message>,
    speaker: Speaker,
    imported: &mut Imported,
) {
    for (who, text) in turns {
        if *who != speaker {
            before.push(Message::user(text));
            continue;
        }
        imported.add_example(Example {
            prompt: before.clone(),
            response: text.clone(),
        });
        before.push(Message::assistant(text));
    }
}
