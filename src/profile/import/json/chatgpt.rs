//! Chats of `ChatGPT`, in `conversations.json` or `conversations-000.json` … of the archive that it exports:
//!
//! ```text
//! {"title": …, "current_node": …, "mapping": {id: {"parent": …, "message": {"author": {"role": …}, "recipient": "all",
//!  "content": {"content_type": "text", "parts": […]}, "metadata": {…}}}}}
//! ```
//!
//! Public readers of these exports agree on this: `mapping` is a tree, of which the branch of `current_node` is shown; a
//! `multimodal_text` has texts, pictures (`image_asset_pointer`) and recordings with their transcriptions
//! (`audio_transcription`) as parts; what is said in the voice mode is marked in the metadata; custom instructions and memories
//! are messages of types of their own, or hidden ones; calls of tools have another `recipient`. Links in answers stand between
//! U+E200 and U+E201.

use serde::Deserialize;
use serde_json::Value;

use super::super::Imported;
use super::assistant::{ATTACHED, Node, add_chat, current_branch, list_in, text_in};
use super::object::{JsonObject, shortened};
use super::turn::{Party, Speaker, Turn};

const RECORDING: &str = "a recording";

#[derive(Deserialize)]
struct StoredMessage {
    author: Option<Author>,
    content: Option<Content>,
    #[serde(default)]
    recipient: Option<String>,
    #[serde(default)]
    weight: Option<f64>,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct Author {
    role: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    content_type: Option<String>,
    parts: Option<Vec<Value>>,
}

/// Adds the examples of one chat.
pub(super) fn add(mut chat: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    let mapping = chat.take("mapping").unwrap_or_default();
    let mut nodes: Vec<_> = mapping.as_object().into_iter().flatten().collect();
    // The last one is the newest where the export names none.
    let time = |node: &Value| {
        let time = node
            .get("message")
            .and_then(|message| message.get("create_time"));
        time.and_then(Value::as_f64).unwrap_or(f64::NEG_INFINITY)
    };
    nodes.sort_by(|(_, a), (_, b)| time(a).total_cmp(&time(b)));
    let nodes = nodes.into_iter().map(|(id, node)| Node {
        id: Some(id.as_str()),
        parent: text_in(node, "parent"),
        message: node.get("message"),
    });
    let newest = chat.given("current_node").and_then(Value::as_str);
    let branch = current_branch(nodes.collect(), newest);
    let messages = branch
        .into_iter()
        .flatten()
        .filter(|message| !message.is_null());
    let mut turns = Vec::new();
    for message in messages {
        match StoredMessage::deserialize(message) {
            Ok(message) => turns.extend(message.turn()),
            Err(_) => imported.skip("a message that cannot be read"),
        }
    }
    let title = chat.given("title").and_then(Value::as_str);
    add_chat(title, turns, speaker, imported);
}

impl StoredMessage {
    /// The turn that a message is; `None` if it is none of the chat: hidden ones, results of tools, custom instructions,
    /// memories and thoughts.
    fn turn(&self) -> Option<Turn> {
        let is_set = |field: &str| self.metadata.get(field) == Some(&Value::Bool(true));
        if is_set("is_visually_hidden_from_conversation") || self.weight == Some(0.0) {
            return None;
        }
        let who = match self.author.as_ref()?.role.as_deref() {
            Some("user") => Speaker::Human,
            Some("assistant") => Speaker::Assistant,
            _ => return None,
        };
        let Some(content) = &self.content else {
            return Some(Turn::said(Party::Speaker(who), ""));
        };
        let mut turn = content.turn(who)?;
        turn.calls_tool |= self
            .recipient
            .as_deref()
            .is_some_and(|recipient| recipient != "all");
        if is_set("voice_mode_message") && !turn.text.is_empty() {
            turn.text.clear();
            turn.left.push(RECORDING.to_owned());
        }
        let files = list_in(&self.metadata, "attachments").iter();
        // Pictures are parts too.
        let files = files.filter(|file| {
            !text_in(file, "mime_type")
                .or(text_in(file, "mimeType"))
                .is_some_and(|kind| kind.starts_with("image/"))
        });
        turn.left.extend(files.map(|_| ATTACHED.to_owned()));
        Some(turn)
    }
}

impl Content {
    /// The message with this content; `None` if it is none of the chat.
    fn turn(&self, who: Speaker) -> Option<Turn> {
        let parts = self.parts.as_deref().unwrap_or_default();
        let texts = parts.iter().filter_map(Value::as_str);
        let text = texts.collect::<Vec<_>>().join("\n");
        let mut turn = Turn::said(Party::Speaker(who), without_links(&text).trim());
        match self.content_type.as_deref().unwrap_or("text") {
            "text" => {}
            "multimodal_text" => {
                let others = parts.iter().filter(|part| !part.is_string());
                turn.left = others.filter_map(left_part).map(str::to_owned).collect();
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

/// A part of a message that is no text, in words; `None` for the sound that belongs to a transcription.
fn left_part(part: &Value) -> Option<&'static str> {
    match text_in(part, "content_type") {
        Some("image_asset_pointer") => Some("a picture"),
        Some("audio_transcription") => Some(RECORDING),
        Some("audio_asset_pointer" | "real_time_user_audio_video_asset_pointer") => None,
        _ => Some("a part that is no text"),
    }
}

/// An answer without its links to sources.
fn without_links(text: &str) -> String {
    let mut parts = text.split('\u{e200}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| {
        kept + part.split_once('\u{e201}').map_or(part, |(_, rest)| rest)
    })
}
