//! Chats of `SillyTavern`, a JSON line for each message below a line about the chat:
//!
//! ```text
//! {"user_name": "Ola", "character_name": "Finn", "create_date": …, "chat_metadata": {…}}
//! {"name": "Finn", "is_user": false, "is_system": false, "send_date": …, "mes": "Ahoy.", "swipes": […], "extra": {…}}
//! ```
//!
//! `mes` is the answer that was kept of several (`swipes`), and messages of the system are notes of the program (the interfaces
//! `ChatHeader` and `ChatMessage` of its source). A group has no names in the first line, which may be missing.

use serde_json::Value;

use super::object::JsonObject;
use super::turn::{Party, Speaker, Turn};

/// The program's name.
pub(super) const NAME: &str = "SillyTavern";

/// A line of a chat.
pub(super) enum TavernLine {
    /// A chat begins.
    Head,
    Message(Turn),
}

/// The line that an object is, if it is one of a chat.
pub(super) fn line(object: &JsonObject) -> Option<TavernLine> {
    if let (Some(Value::String(text)), Some(Value::Bool(is_user))) =
        (object.given("mes"), object.given("is_user"))
    {
        let is_note = object.given("is_system") == Some(&Value::Bool(true));
        let speaker = if *is_user {
            Speaker::Human
        } else {
            Speaker::Assistant
        };
        let mut turn = Turn::said(Party::Speaker(speaker), text.trim());
        if is_note {
            turn.text.clear();
            turn.left.push("a note of the program".to_owned());
        }
        return Some(TavernLine::Message(turn));
    }
    let is_head =
        object.has("chat_metadata") || object.has("user_name") && object.has("character_name");
    is_head.then_some(TavernLine::Head)
}
