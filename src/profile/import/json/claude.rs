//! Chats of Claude, in `conversations.json` of the archive that claude.ai exports, as its interface gives them:
//!
//! ```text
//! {"uuid": …, "name": "the title", "current_leaf_message_uuid": …, "chat_messages": [{"uuid": …, "sender": "human",
//!  "parent_message_uuid": …, "text": …, "content": [{"type": "text", "text": …}, {"type": "thinking", …},
//!  {"type": "tool_use", …}], "attachments": [{"file_name": …, "extracted_content": …}], "files": […]}]}
//! ```
//!
//! Public readers of these exports agree on this: `text` is empty in newer exports, and in older ones it holds a note where a
//! part cannot be shown, so `content` goes first; messages that were edited or answered anew stay in the list, and
//! `parent_message_uuid` tells the branches (older exports have no such field and one branch); a long paste is an attachment
//! without a name.

use serde_json::Value;

use super::super::Imported;
use super::assistant::{ATTACHED, Node, add_chat, current_branch, list_in, text_in, turn_of};
use super::object::JsonObject;
use super::turn::{Party, Speaker, Turn};

/// Adds the examples of a chat.
pub(super) fn add(mut chat: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    let messages = chat.take("chat_messages").unwrap_or_default();
    let messages = messages.as_array().map_or(&[][..], Vec::as_slice);
    let nodes = messages.iter().map(|message| Node {
        id: text_in(message, "uuid"),
        parent: text_in(message, "parent_message_uuid"),
        message,
    });
    let newest = chat
        .given("current_leaf_message_uuid")
        .and_then(Value::as_str);
    let branch = current_branch(nodes.collect(), newest);
    let turns = branch.into_iter().map(turn).collect();
    let title = chat.given("name").and_then(Value::as_str);
    add_chat(title, turns, speaker, imported);
}

fn turn(message: &Value) -> Turn {
    let sender = text_in(message, "sender").or(text_in(message, "role"));
    let party = Party::of(sender.unwrap_or_default());
    let mut turn = turn_of(party, message.get("content"), text_in(message, "text"));
    let files = list_in(message, "attachments")
        .iter()
        .chain(list_in(message, "files"));
    turn.left.extend(files.map(|_| ATTACHED.to_owned()));
    turn
}
