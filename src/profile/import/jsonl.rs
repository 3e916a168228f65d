//! JSONL histories: `{"prompt", "response"}` (or TRL's `completion`), or chat `messages`.

use std::path::Path;

use serde::Deserialize;

use super::source::{malformed, utf8};
use crate::Result;
use crate::message::{Message, Role};
use crate::profile::Example;

/// A line as it may be written; which fields it has tells its form.
#[derive(Deserialize)]
struct HistoryLine {
    messages: Option<Vec<Message>>,
    prompt: Option<String>,
    #[serde(alias = "completion")]
    response: Option<String>,
}

/// The examples of a JSONL file; empty lines are skipped. A conversation of several turns gives one example an answer.
///
/// # Errors
///
/// [`crate::Error::Input`] with the number of the first line that cannot be used.
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
        _ => Err("neither {\"prompt\", \"response\"} nor {\"messages\"}".into()),
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
        Err("no message is the assistant's".into())
    } else {
        Ok(examples)
    }
}

/// serde's message with the column alone: the line that it knows is always 1.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.split_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => message,
    }
}
