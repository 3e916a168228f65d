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
//! | `mapping` | a chat of `ChatGPT`'s export |
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
mod dialogue;
mod form;
mod object;
pub(super) mod stream;
#[cfg(test)]
mod tests;
mod turn;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

pub(super) use form::NO_PROMPT;
use serde::Deserialize;
use serde::de::IgnoredAny;
use stream::{JsonItem, for_each_item};
pub use turn::{Speaker, sharegpt};

use super::source::open;
use super::{ImportOption, ImportOptions, Imported, lamp};
use crate::Result;

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
pub(super) fn import(path: &Path, options: &ImportOptions) -> Result<Imported> {
    let reader = BufReader::new(open(path)?);
    if is_lamp(reader) {
        let lamp = lamp::read(path)?;
        let user = lamp.into_user(path, options.lamp_user.as_deref())?;
        let imported = Imported::complete(user.history);
        return Ok(imported.with(ImportOption::LampUser));
    }
    items(path, BufReader::new(open(path)?), options.speaker)
}

/// Whether the file at `path` begins with a JSON object, or a list of objects.
pub(super) fn is_json(path: &Path) -> Result<bool> {
    let mut beginning = Vec::new();
    open(path)?
        .take(4096)
        .read_to_end(&mut beginning)
        .map_err(crate::Error::io("read", path))?;
    let text = String::from_utf8_lossy(&beginning);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_start();
    let after = |text: &str, mark| {
        text.strip_prefix(mark)
            .map(|rest: &str| rest.trim_start().to_owned())
    };
    let object = after(text, '[').unwrap_or_else(|| text.to_owned());
    Ok(after(&object, '{').is_some_and(|rest| rest.starts_with('"')))
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
    for_each_item(path, reader, |item| match item {
        JsonItem::Object(object) => form::add(object, speaker, &mut imported),
        JsonItem::Chat(turns) => {
            form::add_chat(turns, speaker, &mut imported);
            Ok(())
        }
    })?;
    Ok(imported)
}
