//! Chats of Grok, in `prod-grok-backend.json` of the archive that xAI exports:
//!
//! ```text
//! {"conversations": [{"conversation": {"id": …, "title": …}, "responses": [{"response": {"_id": …, "parent_response_id": …,
//!  "sender": "human", "message": …, "file_attachments": […]}}]}]}
//! ```
//!
//! The fields are those that public readers of these exports look for.

use serde_json::Value;

use super::super::Imported;
use super::assistant::{ATTACHED, Node, add_chat, current_branch, list_in, text_in};
use super::object::JsonObject;
use super::turn::{Party, Speaker, Turn};

pub(super) fn wrote(object: &JsonObject) -> bool {
    let responses = object.given("responses").and_then(Value::as_array);
    object.given("conversation").is_some_and(Value::is_object)
        && responses.is_some_and(|it| it.iter().all(|it| it.get("response").is_some()))
}

/// Adds the examples of a chat.
pub(super) fn add(mut chat: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    let responses = chat.take("responses").unwrap_or_default();
    let responses = responses.as_array().into_iter().flatten();
    let responses = responses.filter_map(|it| it.get("response"));
    let nodes = responses.map(|message| Node {
        id: text_in(message, "_id"),
        parent: text_in(message, "parent_response_id"),
        message,
    });
    let branch = current_branch(nodes.collect(), None);
    let turns = branch.into_iter().map(turn).collect();
    let conversation = chat.take("conversation").unwrap_or_default();
    add_chat(text_in(&conversation, "title"), turns, speaker, imported);
}

fn turn(message: &Value) -> Turn {
    let sender = text_in(message, "sender").unwrap_or_default();
    let text = text_in(message, "message").unwrap_or_default();
    let mut turn = Turn::said(Party::of(sender), text.trim());
    let files = list_in(message, "file_attachments").iter();
    turn.left.extend(files.map(|_| ATTACHED.to_owned()));
    turn
}
