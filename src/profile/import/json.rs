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
//! | `task`, `users` | see [`lamp`] |
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
mod stream;
mod tavern;
#[cfg(test)]
mod tests;
mod turn;

use std::io::BufRead;
use std::path::Path;

use object::JsonObject;
use program::Program;
use serde::Deserialize;
use serde::de::IgnoredAny;
use stream::{JsonItem, for_each_item};
use tavern::Line;
use turn::Turn;
pub use turn::{Speaker, sharegpt};

use super::export_files::ExportFile;
use super::{ImportOption, ImportOptions, Imported, lamp};
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
    let path = file.path();
    if file.read(|reader| Ok(is_lamp(reader)))? {
        let lamp = lamp::read_file(file)?;
        let user = lamp.into_user(path, options.lamp_user.as_deref())?;
        let imported = Imported::complete(user.history);
        return Ok(imported.with(ImportOption::LampUser));
    }
    file.read(|reader| items(path, reader, options.speaker))
}

/// What a file of JSON holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonKind {
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
    if file.read(|reader| Ok(is_lamp(reader)))? {
        return Ok(JsonKind::Items);
    }
    let mut kind = JsonKind::Unknown;
    let read = file.read(|reader| {
        for_each_item(file.path(), reader, |item| {
            let mut imported = Imported::default();
            kind = match item {
                JsonItem::Chat(_) => JsonKind::Items,
                JsonItem::Object(object) if is_of_program(&object) => JsonKind::Chats,
                JsonItem::Object(object) => match form::add(object, None, &mut imported) {
                    Ok(()) => JsonKind::Items,
                    Err(_) => JsonKind::Unknown,
                },
            };
            Err("the first item is enough".to_owned())
        })
    });
    match read {
        Err(error @ Error::Io { .. }) => Err(error),
        _ => Ok(kind),
    }
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
}

/// Whether a file that begins with these bytes begins with a JSON object, or a list of objects.
pub(super) fn begins(beginning: &[u8]) -> bool {
    let text = String::from_utf8_lossy(beginning);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_start();
    let object = text.strip_prefix('[').map_or(text, str::trim_start);
    let inner = object.strip_prefix('{').map(str::trim_start);
    inner.is_some_and(|inner| inner.starts_with('"'))
}

/// Whether a text begins with an object that has the fields of a LaMP file. A serde struct could also be a list.
fn is_lamp(mut reader: impl BufRead) -> bool {
    #[derive(Deserialize)]
    struct LampFields {
        task: IgnoredAny,
        users: IgnoredAny,
    }
    loop {
        let Ok(beginning) = reader.fill_buf() else {
            return false;
        };
        let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(byte);
        let n_blank = beginning.iter().take_while(is_blank).count();
        let next = beginning.get(n_blank).copied();
        let is_end = beginning.is_empty();
        reader.consume(n_blank);
        match next {
            Some(b'{') => break,
            None if !is_end => {}
            _ => return false,
        }
    }
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    matches!(
        LampFields::deserialize(&mut deserializer),
        Ok(LampFields {
            task: IgnoredAny,
            users: IgnoredAny,
        })
    )
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
    }
}
