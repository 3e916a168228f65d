//! Chats with assistants, as programs export them: what the exports have in common. The person's texts are the user's, unless
//! the other speaker is asked for.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::Imported;
use super::dialogue::Dialogue;
use super::turn::{Party, Speaker, TOOL, Turn};

/// The bytes of what was said before that are kept with a text. Chats with assistants are long, and most of what they hold is
/// the assistant's.
const WINDOW: usize = 1_000;

/// Titles of chats that have none.
const UNTITLED: [&str; 3] = ["", "new chat", "untitled"];

/// Adds the examples of a chat with an assistant.
pub(super) fn add_chat(
    title: Option<&str>,
    turns: Vec<Turn>,
    speaker: Option<Speaker>,
    imported: &mut Imported,
) {
    let speaker = speaker.unwrap_or(Speaker::Human);
    let other = match speaker {
        Speaker::Human => Speaker::Assistant,
        Speaker::Assistant => Speaker::Human,
    };
    let mut turns = without_pieces(turns, speaker, imported);
    // When the speaker begins the chat, its title stands for the missing prompt.
    let mut said = turns
        .iter()
        .filter(|turn| matches!(turn.party, Party::Speaker(_)));
    if said.next().is_some_and(|turn| turn.is_of(speaker)) {
        let title = title.map(str::trim);
        let title = title.filter(|title| !UNTITLED.iter().any(|it| title.eq_ignore_ascii_case(it)));
        let opening = match title {
            Some(title) => format!("Start a chat about \"{title}\"."),
            None => "Start a chat.".to_owned(),
        };
        turns.insert(0, Turn::said(Party::Speaker(other), opening));
    }
    Dialogue::add_windowed(turns, speaker, WINDOW, imported);
}

/// The messages without those of the assistant that say nothing before another one: programs store an answer in pieces, with
/// the calls of tools between them.
fn without_pieces(turns: Vec<Turn>, speaker: Speaker, imported: &mut Imported) -> Vec<Turn> {
    let mut kept = Vec::with_capacity(turns.len());
    let mut turns = turns.into_iter().peekable();
    while let Some(turn) = turns.next() {
        let is_of_both =
            |next: &Turn| turn.is_of(Speaker::Assistant) && next.is_of(Speaker::Assistant);
        let is_piece = turns.peek().is_some_and(is_of_both);
        let is_empty = turn.text.is_empty() && turn.left.is_empty();
        // Where answers are learnt, it matters which ones follow a call.
        if !is_piece || !is_empty || turn.calls_tool && speaker == Speaker::Assistant {
            kept.push(turn);
        } else if turn.calls_tool {
            imported.skip(TOOL);
        }
    }
    kept
}

/// A message in a tree of messages. A chat in which messages were edited or answered anew has branches.
pub(super) struct Node<'a, T> {
    pub id: Option<&'a str>,
    pub parent: Option<&'a str>,
    pub message: T,
}

/// The messages from the beginning of a chat to the newest one, or to the last one if the newest is not named. Where no message
/// names one before it, all are of one branch.
pub(super) fn current_branch<'a, T>(nodes: Vec<Node<'a, T>>, newest: Option<&str>) -> Vec<T> {
    let places: HashMap<_, _> = nodes
        .iter()
        .enumerate()
        .filter_map(|(place, node)| Some((node.id?, place)))
        .collect();
    let before = |node: &Node<'a, T>| node.parent.and_then(|id| places.get(id).copied());
    if nodes.iter().all(|node| before(node).is_none()) {
        return nodes.into_iter().map(|node| node.message).collect();
    }
    let newest = newest.and_then(|id| places.get(id).copied());
    let mut branch = HashSet::new();
    let mut order = Vec::new();
    let mut next = newest.or(nodes.len().checked_sub(1));
    while let Some(place) = next.filter(|place| branch.insert(*place)) {
        order.push(place);
        next = before(&nodes[place]);
    }
    let mut messages: Vec<_> = nodes.into_iter().map(|node| Some(node.message)).collect();
    let ordered = order.into_iter().rev();
    ordered.filter_map(|place| messages[place].take()).collect()
}

/// The text in a field of a message.
pub(super) fn text_in<'a>(message: &'a Value, field: &str) -> Option<&'a str> {
    message.get(field).and_then(Value::as_str)
}

/// The elements of a list in a field of a message.
pub(super) fn list_in<'a>(message: &'a Value, field: &str) -> &'a [Value] {
    let list = message.get(field).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// A message with this content, a text or a list of parts. Where the content is of another kind, or has no text, its text is
/// `text`.
pub(super) fn turn_of(party: Party, content: Option<&Value>, text: Option<&str>) -> Turn {
    let of_content = content
        .filter(|content| content.is_string() || content.is_array())
        .and_then(|content| Turn::with_content(party.clone(), content, "content").ok());
    let mut turn = of_content.unwrap_or_else(|| Turn::said(party, ""));
    if turn.text.trim().is_empty() && !turn.calls_tool {
        text.unwrap_or_default().clone_into(&mut turn.text);
    }
    turn.text = turn.text.trim().to_owned();
    turn
}

/// The reason for files that a person has attached to a message.
pub(super) const ATTACHED: &str = "an attached file";
