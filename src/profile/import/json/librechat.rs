//! Chats of `LibreChat`, as its menu exports them in JSON (`client/src/hooks/Conversations/useExportConversation.ts`):
//!
//! ```text
//! {"conversationId": …, "title": …, "branches": …, "recursive": …, "messages": [{"messageId": …, "parentMessageId": …,
//!  "sender": "User", "isCreatedByUser": true, "text": …, "content": [{"type": "text", "text": {"value": …}}],
//!  "children": [the same]}]}
//! ```
//!
//! With `recursive` each message holds those that follow it as `children`; without `branches` the list is one branch, else the
//! branch of the last message is the current one.

use serde_json::Value;

use super::super::Imported;
use super::assistant::{ATTACHED, Node, add_chat, current_branch, list_in, text_in, turn_of};
use super::object::JsonObject;
use super::turn::{Party, Speaker, Turn};

/// The most messages that follow one another; more are taken for a loop of the exporting program.
const MAX_DEPTH: usize = 100;

/// Fields with the messages.
const MESSAGES: [&str; 2] = ["messages", "messagestree"];

pub(super) fn wrote(object: &JsonObject) -> bool {
    let is_message = |message: &Value| {
        message
            .get("isCreatedByUser")
            .is_some_and(Value::is_boolean)
    };
    let mut lists = MESSAGES
        .iter()
        .filter_map(|field| object.given(field)?.as_array());
    lists.any(|list| list.first().is_some_and(is_message))
}

/// Adds the examples of a chat.
pub(super) fn add(mut chat: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    let mut nodes = Vec::new();
    let lists = MESSAGES.map(|field| chat.take(field).unwrap_or_default());
    for message in lists.iter().filter_map(Value::as_array).flatten() {
        collect(message, None, MAX_DEPTH, &mut nodes);
    }
    let branch = current_branch(nodes, None);
    let turns = branch.into_iter().map(turn).collect();
    let title = chat.given("title").and_then(Value::as_str);
    add_chat(title, turns, speaker, imported);
}

/// Adds a message and those below it.
fn collect<'a>(
    message: &'a Value,
    parent: Option<&'a str>,
    depth: usize,
    nodes: &mut Vec<Node<'a, &'a Value>>,
) {
    let id = text_in(message, "messageId");
    let parent = parent.or(text_in(message, "parentMessageId"));
    nodes.push(Node {
        id,
        parent,
        message,
    });
    for child in list_in(message, "children") {
        if depth > 0 {
            collect(child, id, depth - 1, nodes);
        }
    }
}

fn turn(message: &Value) -> Turn {
    let is_user = message.get("isCreatedByUser").and_then(Value::as_bool);
    let party = match is_user {
        Some(true) => Party::Speaker(Speaker::Human),
        Some(false) => Party::Speaker(Speaker::Assistant),
        None => Party::of(text_in(message, "sender").unwrap_or_default()),
    };
    let mut turn = turn_of(party, message.get("content"), text_in(message, "text"));
    if message.get("error") == Some(&Value::Bool(true)) {
        turn.text.clear();
        turn.left.push("a program's error".to_owned());
    }
    let files = list_in(message, "files").iter();
    turn.left.extend(files.map(|_| ATTACHED.to_owned()));
    turn
}
