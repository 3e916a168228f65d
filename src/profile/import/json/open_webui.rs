//! Chats of Open WebUI, one or all, as its menus export them:
//!
//! ```text
//! [{"id": …, "title": …, "chat": {"title": …, "models": […], "messages": [{"id": …, "parentId": …, "role": "user",
//!  "content": …, "files": […]}], "history": {"currentId": …, "messages": {id: {the same}}}}}]
//! ```
//!
//! `history` is the tree of all messages, and `messages` its current branch, which newer versions leave out (its source,
//! `createMessagesList` in `src/lib/utils/index.ts`). Thoughts and calls of tools stand in `<details type="…">` within the
//! assistant's texts.

use serde_json::Value;

use super::super::Imported;
use super::assistant::{ATTACHED, Node, add_chat, current_branch, list_in, text_in, turn_of};
use super::object::JsonObject;
use super::turn::{Party, Speaker, TOOL, Turn};

/// The beginnings of what tools did, within a text.
const TOOL_DETAILS: [&str; 2] = [
    "<details type=\"tool_calls\"",
    "<details type=\"code_interpreter\"",
];
const DETAILS_END: &str = "</details>";

pub(super) fn wrote(object: &JsonObject) -> bool {
    let chat = object.given("chat");
    chat.is_some_and(|chat| {
        chat.get("messages").is_some_and(Value::is_array) || tree(chat).is_some()
    })
}

/// Adds the examples of a chat.
pub(super) fn add(mut item: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    let chat = item.take("chat").unwrap_or_default();
    let newest = chat
        .get("history")
        .and_then(|history| text_in(history, "currentId"));
    let tree = tree(&chat).filter(|tree| newest.is_some_and(|id| tree.contains_key(id)));
    let messages: Vec<&Value> = match tree {
        Some(tree) => tree.values().collect(),
        None => list_in(&chat, "messages").iter().collect(),
    };
    let nodes = messages.into_iter().map(|message| Node {
        id: text_in(message, "id"),
        parent: text_in(message, "parentId"),
        message,
    });
    let branch = current_branch(nodes.collect(), newest);
    let turns = branch.into_iter().map(turn).collect();
    let title = text_in(&chat, "title").or(item.given("title").and_then(Value::as_str));
    add_chat(title, turns, speaker, imported);
}

fn tree(chat: &Value) -> Option<&serde_json::Map<String, Value>> {
    chat.get("history")?.get("messages")?.as_object()
}

fn turn(message: &Value) -> Turn {
    let party = Party::of(text_in(message, "role").unwrap_or_default());
    let mut turn = turn_of(party, message.get("content"), None);
    let files = list_in(message, "files").iter();
    turn.left.extend(files.map(|_| ATTACHED.to_owned()));
    while let Some((start, end)) = tool_details(&turn.text) {
        turn.text.replace_range(start..end, "");
        turn.text = turn.text.trim().to_owned();
        turn.left.push(TOOL.to_owned());
    }
    turn
}

/// Where the first part of a text that tells what a tool did begins and ends.
fn tool_details(text: &str) -> Option<(usize, usize)> {
    let start = TOOL_DETAILS.iter().filter_map(|it| text.find(it)).min()?;
    let end = text[start..]
        .find(DETAILS_END)
        .map(|at| start + at + DETAILS_END.len());
    Some((start, end.unwrap_or(text.len())))
}
