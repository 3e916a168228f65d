//! Chats of `DeepSeek`, in `conversations.json` of the archive that it exports:
//!
//! ```text
//! {"title": …, "inserted_at": …, "mapping": {"root": …, "1": {"id": "1", "parent": "root", "message": {"files": […],
//!  "inserted_at": …, "fragments": [{"type": "REQUEST", "content": …}]}}, "2": {… [{"type": "THINK", …}, {"type": "RESPONSE", …}]}}}
//! ```
//!
//! Public readers of these exports agree on this: `mapping` is a tree as in `ChatGPT`'s exports, and a message has fragments of
//! one speaker, among them thoughts and searches.

use serde_json::Value;

use super::super::Imported;
use super::assistant::{ATTACHED, Node, add_chat, current_branch, list_in, text_in};
use super::object::JsonObject;
use super::turn::{Party, Speaker, Turn};

/// The types of fragments with what a person and the assistant say.
const ASKED: &str = "REQUEST";
const ANSWERED: &str = "RESPONSE";

pub(super) fn wrote(object: &JsonObject) -> bool {
    let nodes = object.given("mapping").and_then(Value::as_object);
    let mut nodes = nodes.into_iter().flatten();
    nodes.any(|(_, node)| {
        let message = node.get("message");
        message.is_some_and(|it| it.get("fragments").is_some_and(Value::is_array))
    })
}

/// Adds the examples of a chat.
pub(super) fn add(mut chat: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    let mapping = chat.take("mapping").unwrap_or_default();
    let mut nodes: Vec<_> = mapping.as_object().into_iter().flatten().collect();
    // The last one is the newest.
    let time = |node: &'_ Value| -> String {
        let time = node
            .get("message")
            .and_then(|it| text_in(it, "inserted_at"));
        time.unwrap_or_default().to_owned()
    };
    nodes.sort_by_cached_key(|(id, node)| (time(node), id.parse::<u64>().ok()));
    let nodes = nodes.into_iter().map(|(id, node)| Node {
        id: Some(id.as_str()),
        parent: text_in(node, "parent"),
        message: node.get("message"),
    });
    let branch = current_branch(nodes.collect(), None);
    let turns = branch.into_iter().flatten().filter_map(turn).collect();
    let title = chat.given("title").and_then(Value::as_str);
    add_chat(title, turns, speaker, imported);
}

/// The turn that a message is; `None` for the root of the tree.
fn turn(message: &Value) -> Option<Turn> {
    let fragments = message.get("fragments")?.as_array()?;
    let said = |kind: &str| {
        let fragments = fragments.iter();
        let fragments = fragments.filter(|it| text_in(it, "type") == Some(kind));
        let texts: Vec<_> = fragments.filter_map(|it| text_in(it, "content")).collect();
        texts.join("\n").trim().to_owned()
    };
    let is_asked = fragments
        .iter()
        .any(|it| text_in(it, "type") == Some(ASKED));
    let (who, kind) = if is_asked {
        (Speaker::Human, ASKED)
    } else {
        (Speaker::Assistant, ANSWERED)
    };
    let mut turn = Turn::said(Party::Speaker(who), said(kind));
    let files = list_in(message, "files").iter();
    turn.left.extend(files.map(|_| ATTACHED.to_owned()));
    Some(turn)
}
