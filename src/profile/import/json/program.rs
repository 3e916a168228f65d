//! The programs whose chats with assistants are read.

use serde_json::Value;

use super::super::Imported;
use super::object::JsonObject;
use super::turn::Speaker;
use super::{chatgpt, claude, deepseek, gemini, grok, librechat, open_webui};

/// A program, and how an item of its exports is told and read.
pub(super) struct Program {
    name: &'static str,
    /// Whether an item is one of this program.
    wrote: fn(&JsonObject) -> bool,
    /// Adds the examples of an item.
    read: fn(JsonObject, Option<Speaker>, &mut Imported),
}

/// The programs, whose fields are kept by `object.rs`. `SillyTavern` is not among them, since each message of its chats is an item.
pub(super) const PROGRAMS: [Program; 7] = [
    Program {
        name: "DeepSeek",
        wrote: deepseek::wrote,
        read: deepseek::add,
    },
    Program {
        name: "Grok",
        wrote: grok::wrote,
        read: grok::add,
    },
    Program {
        name: "ChatGPT",
        wrote: |object| object.given("mapping").is_some_and(Value::is_object),
        read: chatgpt::add,
    },
    Program {
        name: "Claude",
        wrote: |object| object.given("chat_messages").is_some_and(Value::is_array),
        read: claude::add,
    },
    Program {
        name: gemini::NAME,
        wrote: gemini::wrote,
        read: |object, speaker, imported| gemini::add(&object, speaker, imported),
    },
    Program {
        name: "Open WebUI",
        wrote: open_webui::wrote,
        read: open_webui::add,
    },
    Program {
        name: "LibreChat",
        wrote: librechat::wrote,
        read: librechat::add,
    },
];

impl Program {
    /// The program that wrote an item, if it is known.
    pub fn of(object: &JsonObject) -> Option<&'static Self> {
        PROGRAMS.iter().find(|program| (program.wrote)(object))
    }

    /// Adds the examples of an item.
    pub fn add(&self, object: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
        imported.take_from(self.name, speaker.unwrap_or(Speaker::Human));
        (self.read)(object, speaker, imported);
    }
}

/// When a chat began, as a number that grows with time within one export: most list the newest chat first.
pub(super) fn time(object: &JsonObject) -> Option<f64> {
    let mut times = ["create_time", "created_at", "inserted_at", "time"].into_iter();
    times.find_map(|name| match object.given(name)? {
        Value::String(text) => {
            let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
            digits.parse().ok()
        }
        value => value.as_f64(),
    })
}
