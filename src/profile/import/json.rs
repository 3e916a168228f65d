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
//! | `task`, `users`; `input`, `profile` | see [`lamp`](super::lamp) |
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

mod assistant;
mod chatgpt;
mod claude;
mod deepseek;
mod dialogue;
mod form;
mod gemini;
mod grok;
mod librechat;
mod object;
mod open_webui;
mod program;
mod prompt_label;
pub(super) mod stream;
mod tavern;
#[cfg(test)]
mod tests;
mod turn;

use std::io::{BufRead, BufReader};
use std::path::Path;

pub(super) use form::NO_PROMPT;
pub(super) use gemini::{Activity, without_files};
pub(super) use object::JsonObject;
use object::{CHATS, LISTS};
use program::Program;
pub(super) use prompt_label::PromptLabels;
use stream::{JsonItem, for_each_item};
use tavern::TavernLine;
use turn::Turn;
pub use turn::{Speaker, sharegpt};

use super::export_files::ExportFile;
use super::{ImportOptions, Imported, parquet};
use crate::{Error, Result};

/// The examples of a JSON text with these bytes, in any form but LaMP's; `path` is for messages only.
///
/// # Errors
///
/// [`crate::Error::Input`], with the line, when the text is malformed.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Imported> {
    items(path, bytes, None)
}

/// The examples of a file, in any form but LaMP's.
///
/// # Errors
///
/// Those of [`parse`], and [`Error::Io`] when it cannot be read.
pub(super) fn import(file: &ExportFile, options: &ImportOptions) -> Result<Imported> {
    let mut items = Items::new(options.speaker);
    for_each(file, |item| items.add(item))?;
    if let Some(labels) = items.labels.learn() {
        items = Items::new(options.speaker);
        items.labels = labels;
        for_each(file, |item| items.add(item))?;
    }
    Ok(items.finish())
}

/// Whether a file that begins with these bytes begins with a JSON object, or a list of objects.
pub(super) fn begins(beginning: &[u8]) -> bool {
    let text = String::from_utf8_lossy(beginning);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_start();
    let object = text.strip_prefix('[').map_or(text, str::trim_start);
    let inner = object.strip_prefix('{').map(str::trim_start);
    inner.is_some_and(|inner| inner.starts_with('"'))
}

/// The kinds of texts in JSON.
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
    let read = for_each(file, |item| {
        kind = match item {
            JsonItem::Chat(_) => JsonKind::Items,
            JsonItem::Object(object) => kind_of(object),
        };
        Err("the first item is enough".to_owned())
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
    } else if has_both("input", "profile") {
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
    for_each(file, |item| match item {
        JsonItem::Object(object) => take(object),
        JsonItem::Chat(_) => Err("a list, where an object is needed".to_owned()),
    })
}

/// Calls `take` with each item of a file in JSON or Parquet.
fn for_each(file: &ExportFile, mut take: impl FnMut(JsonItem) -> Result<(), String>) -> Result<()> {
    if file.beginning(parquet::MAGIC.len() as u64)? == parquet::MAGIC {
        return parquet::for_each_row(file, |row| take(JsonItem::Object(row.into())));
    }
    // The text is read byte by byte, which takes a reader of a known type.
    file.read(|reader| for_each_item(file.path(), BufReader::new(reader), take))
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

fn items(path: &Path, reader: impl BufRead, speaker: Option<Speaker>) -> Result<Imported> {
    let mut items = Items::new(speaker);
    for_each_item(path, reader, |item| items.add(item))?;
    Ok(items.finish())
}

/// Makes examples of items.
struct Items {
    speaker: Option<Speaker>,
    /// The messages of a chat in which each is an item.
    open: Vec<Turn>,
    /// When the chats of programs began, and the place of the first example of each.
    begun: Vec<(f64, usize)>,
    /// The words around prompts in a record of Google's.
    labels: PromptLabels,
    imported: Imported,
}

impl Items {
    fn new(speaker: Option<Speaker>) -> Self {
        Self {
            speaker,
            open: Vec::new(),
            begun: Vec::new(),
            labels: PromptLabels::default(),
            imported: Imported::default(),
        }
    }

    fn add(&mut self, item: JsonItem) -> Result<(), String> {
        let line = match &item {
            JsonItem::Object(object) => tavern::line(object),
            JsonItem::Chat(_) => None,
        };
        if let Some(TavernLine::Message(turn)) = line {
            self.open.push(turn);
            return Ok(());
        }
        self.end_chat();
        match (item, line) {
            (_, Some(_)) => Ok(()),
            (JsonItem::Object(mut object), None) => {
                gemini::translate(&mut object, &mut self.labels);
                let time = program::time(&object).filter(|_| Program::of(&object).is_some());
                let time = time.or(self.begun.last().map(|(time, _)| *time));
                self.begun
                    .extend(time.map(|time| (time, self.imported.examples.len())));
                form::add(object, self.speaker, &mut self.imported)
            }
            (JsonItem::Chat(turns), None) => {
                form::add_chat(turns, self.speaker, &mut self.imported);
                Ok(())
            }
        }
    }

    /// Adds the examples of a chat whose messages have been read.
    fn end_chat(&mut self) {
        let turns = std::mem::take(&mut self.open);
        if !turns.is_empty() {
            assistant::add_chat(None, turns, self.speaker, &mut self.imported);
            let speaker = self.speaker.unwrap_or(Speaker::Human);
            self.imported.take_from(tavern::NAME, speaker);
        }
    }

    fn finish(mut self) -> Imported {
        self.end_chat();
        self.sort_chats();
        self.imported
    }

    /// Puts the examples of programs' chats in the order of time.
    fn sort_chats(&mut self) {
        let mut examples = std::mem::take(&mut self.imported.examples);
        let mut chats = Vec::new();
        for (time, start) in self.begun.drain(..).rev() {
            chats.push((time, examples.split_off(start)));
        }
        chats.push((f64::NEG_INFINITY, examples));
        chats.reverse();
        chats.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let examples = chats.into_iter().flat_map(|(_, examples)| examples);
        self.imported.examples = examples.collect();
    }
}
