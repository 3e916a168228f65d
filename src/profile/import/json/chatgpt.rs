//! Chats as `ChatGPT` exports them:
//!
//! ```text
//! {"title": …, "current_node": …, "mapping": {id: {"parent": …, "message": {"author": {"role": …},
//!  "content": {"content_type": "text", "parts": […]}}}}}
//! ```

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::super::Imported;
use super::dialogue::Dialogue;
use super::object::{JsonObject, shortened};
use super::turn::{Party, Speaker, Turn};

#[derive(Deserialize)]
struct Node {
    parent: Option<String>,
    message: Option<NodeMessage>,
}

#[derive(Deserialize)]
struct NodeMessage {
    author: Author,
    content: Option<Content>,
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

/// Adds the examples of one chat. By default the human's texts are taken, since the answers are a model's.
///
/// # Errors
///
/// A field is missing or of another type.
pub(super) fn add(
    mut chat: JsonObject,
    speaker: Option<Speaker>,
    imported: &mut Imported,
) -> Result<(), String> {
    let mapping = chat.take("mapping").unwrap_or_default();
    let mapping: HashMap<String, Node> =
        serde_path_to_error::deserialize(mapping).map_err(|error| {
            let (field, what) = (error.path().to_string(), error.into_inner().to_string());
            let what = what.trim_start_matches("invalid type: ");
            format!("the field \"mapping\" of a ChatGPT export cannot be read, at {field}: {what}")
        })?;
    let newest = chat.given("current_node").and_then(Value::as_str);
    let mut turns = turns(&mapping, newest);
    let speaker = speaker.unwrap_or(Speaker::Human);
    // When the speaker begins the chat, the title replaces the missing prompt.
    let title = chat.given("title").and_then(Value::as_str);
    if let Some(title) = title
        && turns.first().is_some_and(|turn| turn.is_of(speaker))
    {
        let other = match speaker {
            Speaker::Human => Speaker::Assistant,
            Speaker::Assistant => Speaker::Human,
        };
        let text = format!("Start a chat about \"{title}\".");
        turns.insert(0, Turn::said(Party::Speaker(other), text));
    }
    Dialogue::add(turns, speaker, imported);
    Ok(())
}

impl Content {
    /// The message with this content; `None` if it is none of the chat: custom instructions, memories and thoughts.
    fn turn(&self, who: Speaker) -> Option<Turn> {
        let texts = self.parts.iter().filter_map(Value::as_str);
        let text = texts.collect::<Vec<_>>().join("\n");
        let mut turn = Turn::said(Party::Speaker(who), text.trim());
        match self.content_type.as_str() {
            "text" => {}
            "multimodal_text" => {
                let others = self.parts.iter().filter(|part| !part.is_string());
                turn.left = others.map(|_| "a picture or a recording".into()).collect();
            }
            "code" => turn.calls_tool = true,
            "user_editable_context" | "model_editable_context" | "thoughts" | "reasoning_recap" => {
                return None;
            }
            kind => turn
                .left
                .push(format!("a message that is no text ({:?})", shortened(kind))),
        }
        Some(turn)
    }
}

/// The turns on the path from the root to the newest message. A chat in which messages were edited has other branches,
/// which are left out.
fn turns(mapping: &HashMap<String, Node>, newest: Option<&str>) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut seen = HashSet::new();
    let mut next = newest;
    while let Some(id) = next.filter(|id| seen.insert(*id)) {
        let Some(node) = mapping.get(id) else {
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
        if let Some(content) = &message.content
            && let Some(turn) = content.turn(who)
        {
            turns.push(turn);
        }
    }
    turns.reverse();
    turns
}
