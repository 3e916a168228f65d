//! Plain text and Markdown files: one file is one item, its title the occasion and the rest what the user wrote.

use std::path::Path;

use super::{Example, malformed, utf8};
use crate::Result;

/// The item of a text file. The title is that of the front matter (`---`, `title: …`, `---`) or else the first line
/// that is not empty, without Markdown's `#`.
///
/// # Errors
///
/// [`crate::Error::Input`] when there is no title or no text after it.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Example> {
    let text = utf8(path, bytes)?.replace("\r\n", "\n");
    let (title, body) = title_and_body(&text).ok_or_else(|| {
        malformed(
            path,
            "has no text after its title: write the title on the first line, the text below it",
        )
    })?;
    Example::new(format!("Write a text titled \"{title}\"."), body)
        .checked()
        .map_err(|what| malformed(path, what))
}

fn title_and_body(text: &str) -> Option<(&str, &str)> {
    let (title, body) = match front_matter(text) {
        Some((Some(title), body)) => (title, body),
        Some((None, body)) => first_line(body)?,
        None => first_line(text)?,
    };
    let body = body.trim();
    (!title.is_empty() && !body.is_empty()).then_some((title, body))
}

/// The title, if any, and what follows the front matter.
fn front_matter(text: &str) -> Option<(Option<&str>, &str)> {
    let (head, body) = text.strip_prefix("---\n")?.split_once("\n---\n")?;
    let title = head.lines().find_map(|line| line.strip_prefix("title:"));
    Some((
        title.map(|title| title.trim().trim_matches(['"', '\''])),
        body,
    ))
}

fn first_line(text: &str) -> Option<(&str, &str)> {
    let (title, body) = text.trim_start().split_once('\n')?;
    Some((title.trim_start_matches('#').trim(), body))
}
