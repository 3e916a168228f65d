//! Texts in JSON, of which the content tells the form and not the file's name: one object or list, or values that follow
//! each other, one on each line (JSON Lines) or in any other layout. A list may be of any size, since its items are read
//! one by one. An item has one of these forms; fields with other names are ignored:
//!
//! | fields | meaning |
//! |---|---|
//! | `prompt`, `response` | what was said to the user, and what the user wrote |
//! | `messages`, `conversations`, `conversation` or `contents` | a chat |
//! | `instruction`, `input`, `output` | Alpaca's names of prompt, further material and response |
//! | `prompt`, `chosen`, `rejected` | a preference, of which the chosen response is taken |
//! | `text`, `title` | a text without a prompt, or with a title alone |
//! | `user`, `assistant` | a question and its answer |
//! | those of a program's export | a chat with an assistant: see `json/program.rs` |
//! | `task`, `users`; `input`, `profile` | see [`lamp`] |
//!
//! `question`, `query` and `instruction` may stand for `prompt`; `completion`, `output` and `answer` for `response`;
//! `context` for `input`. `system` is a system message, `history` what was said before: pairs of texts, or messages.
//! Prompts and responses may be lists of messages. A prompt that is null stands for none.
//!
//! A message of a chat is `{"role": …, "content": …}` or `{"from": …, "value": …}`. Each text of the assistant becomes an
//! example with what was said before as its prompt. A content may be a list of parts, of which the texts are taken. An
//! answer with the `weight` 0, or marked so by another field, is not learnt, and stays in the prompts of those that follow.
//!
//! Parts of an item that are left are counted by reason: messages of unknown speakers, calls of tools and their results, parts
//! that are no text, empty messages. After a message that was left, an answer is taken only when another question has
//! come, because it would become the answer to a question that it does not answer. An answer after the results of the
//! tools that the assistant called, by `tool_calls` or the like, answers the question before the calls.
//!
//! ```json
//! {"prompt": "How are you?", "response": "Splendid!"}
//! {"messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Gladly!"}]}
//! ```

mod chatgpt;
mod claude;
mod dialogue;
mod form;
mod gemini;
mod librechat;
mod object;
mod open_webui;
mod program;
pub(super) mod stream;
mod tavern;
#[cfg(test)]
mod tests;
mod turn;

use std::io::BufRead;
use std::path::Path;

pub(super) use form::NO_PROMPT;
pub(super) use object::JsonObject;
use object::{CHATS, LISTS};
use program::Program;
use stream::{JsonItem, for_each_item};
use tavern::Line;
use turn::Turn;
pub use turn::{Speaker, sharegpt};

use super::export_files::ExportFile;
use super::{ImportOptions, Imported, lamp};
use crate::{Error, Result};

/// The examples of a JSON text with these bytes, in any form but LaMP's; `path` is for messages only.
///
/// # Errors
///
/// [`crate::Error::Input`], with the line, when the text is malformed.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Imported> {
    items(path, bytes, None)
}

/// The examples of a file.
///
/// # Errors
///
/// Those of [`parse`], and those of LaMP files.
pub(super) fn import(file: &ExportFile, options: &ImportOptions) -> Result<Imported> {
    let user = options.lamp_user.as_deref();
    match kind(file)? {
        JsonKind::Users => lamp::import(file, false, user),
        JsonKind::Questions => lamp::import(file, true, user),
        JsonKind::Golds => Err(lamp::refuse_golds(file)),
        _ => file.read(|reader| items(file.path(), reader, options.speaker)),
    }
}

/// What a file of JSON holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
    /// A LaMP file in this program's form.
    Users,
    /// A LaMP file as it is published.
    Questions,
    /// The golds of one.
    Golds,
    /// Chats with an assistant, as a program exports them.
    Chats,
    /// Other items.
    Items,
    Unknown,
}

/// Tells what a file of JSON holds, by its first item.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read.
pub(super) fn kind(file: &ExportFile) -> Result<JsonKind> {
    let mut kind = JsonKind::Unknown;
    let read = file.read(|reader| {
        for_each_item(file.path(), reader, |item| {
            kind = match item {
                JsonItem::Chat(_) => JsonKind::Items,
                JsonItem::Object(object) => kind_of(object),
            };
            Err("the first item is enough".to_owned())
        })
    });
    match read {
        Err(error @ Error::Io { .. }) => Err(error),
        _ => Ok(kind),
    }
}

fn kind_of(object: JsonObject) -> JsonKind {
    let has_both = |one, other| object.has(one) && object.has(other);
    if has_both("task", "users") {
        JsonKind::Users
    } else if has_both("task", "golds") {
        JsonKind::Golds
    } else if lamp::is_question(&object) {
        JsonKind::Questions
    } else if is_of_program(&object) || wraps_program(&object) {
        JsonKind::Chats
    } else {
        let read = form::add(object, None, &mut Imported::default());
        read.map_or(JsonKind::Unknown, |()| JsonKind::Items)
    }
}

/// Calls `take` with each object of a file.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read; [`Error::Input`], with the place, when it is malformed or `take` refuses an object.
pub(super) fn for_each_object(
    file: &ExportFile,
    mut take: impl FnMut(JsonObject) -> Result<(), String>,
) -> Result<()> {
    file.read(|reader| {
        for_each_item(file.path(), reader, |item| match item {
            JsonItem::Object(object) => take(object),
            JsonItem::Chat(_) => Err("a list, where an object is needed".to_owned()),
        })
    })
}

/// Whether an object is a list of items of a program, such as `{"conversations": […]}`.
fn wraps_program(object: &JsonObject) -> bool {
    let first = |name: &&str| object.given(name)?.as_array()?.first()?.as_object();
    let firsts = CHATS.iter().chain(&LISTS).filter_map(first);
    let mut items = firsts.map(|first| JsonObject::from(first.clone()));
    items.any(|item| is_of_program(&item))
}

fn is_of_program(object: &JsonObject) -> bool {
    Program::of(object).is_some() || tavern::line(object).is_some()
}

/// Adds the example of a question to an assistant and its answer, which may be empty.
pub(super) fn add_exchange(
    question: &str,
    answer: &str,
    speaker: Option<Speaker>,
    imported: &mut Imported,
) {
    let mut turns = vec![Turn::asked(question)];
    if !answer.is_empty() {
        turns.push(Turn::answered(answer));
    }
    program::add_chat(None, turns, speaker, imported);
    imported.take_from("Gemini", speaker.unwrap_or(Speaker::Human));
}

/// Whether a file that begins with these bytes begins with a JSON object, or a list of objects.
pub(super) fn begins(beginning: &[u8]) -> bool {
    let text = String::from_utf8_lossy(beginning);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_start();
    let object = text.strip_prefix('[').map_or(text, str::trim_start);
    let inner = object.strip_prefix('{').map(str::trim_start);
    inner.is_some_and(|inner| inner.starts_with('"'))
}

fn items(path: &Path, reader: impl BufRead, speaker: Option<Speaker>) -> Result<Imported> {
    let mut imported = Imported::default();
    // The messages of a chat in which each is an item.
    let mut open = Vec::new();
    for_each_item(path, reader, |item| {
        let line = match &item {
            JsonItem::Object(object) => tavern::line(object),
            JsonItem::Chat(_) => None,
        };
        if let Some(Line::Message(turn)) = line {
            open.push(turn);
            return Ok(());
        }
        end_chat(&mut open, speaker, &mut imported);
        match (item, line) {
            (_, Some(_)) => Ok(()),
            (JsonItem::Object(object), None) => form::add(object, speaker, &mut imported),
            (JsonItem::Chat(turns), None) => {
                form::add_chat(turns, speaker, &mut imported);
                Ok(())
            }
        }
    })?;
    end_chat(&mut open, speaker, &mut imported);
    Ok(imported)
}

/// Adds the examples of a chat whose messages have been read.
fn end_chat(turns: &mut Vec<Turn>, speaker: Option<Speaker>, imported: &mut Imported) {
    let turns = std::mem::take(turns);
    if !turns.is_empty() {
        program::add_chat(None, turns, speaker, imported);
        imported.take_from(tavern::NAME, speaker.unwrap_or(Speaker::Human));
    }
}
