//! Histories in JSONL format: a UTF-8 file with one JSON object per line. Empty lines are skipped, and fields with other
//! names are ignored. A line has one of two forms:
//!
//! | fields | type | meaning |
//! |---|---|---|
//! | `prompt` | string | the user message before the response |
//! | `response` or `completion` | string | the text that the user wrote |
//!
//! or
//!
//! | fields | type | meaning |
//! |---|---|---|
//! | `messages` | array of `{"role": …, "content": …}` | a chat; `role` is `system`, `user` or `assistant` |
//!
//! In the second form each message of the assistant is a text that the user wrote, and becomes an example with all
//! messages before it as its prompt. Prompts and responses must not be blank, and an example has at most 1 MiB of text.
//!
//! ```json
//! {"prompt": "How are you?", "response": "Splendid!"}
//! {"messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Gladly!"}]}
//! ```
//!
//! [`Example`]s are stored in the second form, with one response per line.

use std::path::Path;

use serde::Deserialize;

use super::source::{malformed, utf8};
use crate::Result;
use crate::message::{Message, Role};
use crate::profile::Example;

/// A line in one of the two forms, which its fields tell apart.
#[derive(Deserialize)]
struct HistoryLine {
    messages: Option<Vec<Message>>,
    prompt: Option<String>,
    #[serde(alias = "completion")]
    response: Option<String>,
}

/// The examples of a JSONL file with these bytes; `path` is for messages only. A chat of several turns gives one example
/// per answer.
///
/// # Errors
///
/// [`crate::Error::Input`] with the number of the first malformed line.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    for (number, line) in (1..).zip(utf8(path, bytes)?.lines()) {
        if !line.trim().is_empty() {
            let more = parse_line(line)
                .map_err(|what| malformed(path, format_args!("line {number}: {what}")))?;
            examples.extend(more);
        }
    }
    Ok(examples)
}

fn parse_line(line: &str) -> Result<Vec<Example>, String> {
    let line: HistoryLine = serde_json::from_str(line).map_err(|error| without_line(&error))?;
    match line {
        HistoryLine {
            messages: Some(messages),
            prompt: None,
            response: None,
        } => answers(&messages),
        HistoryLine {
            messages: None,
            prompt: Some(prompt),
            response: Some(response),
        } => Ok(vec![Example::new(prompt, response).checked()?]),
        _ => Err(
            "a line has either the fields \"prompt\" and \"response\", or the field \"messages\""
                .into(),
        ),
    }
}

fn answers(messages: &[Message]) -> Result<Vec<Example>, String> {
    let examples: Vec<Example> = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.role == Role::Assistant)
        .map(|(turn, answer)| {
            Example {
                prompt: messages[..turn].to_vec(),
                response: answer.content.clone(),
            }
            .checked()
        })
        .collect::<Result<_, _>>()?;
    if examples.is_empty() {
        Err("no message has the role assistant".into())
    } else {
        Ok(examples)
    }
}

/// serde's message without the line number, which is always 1 here.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.split_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => message,
    }
}
