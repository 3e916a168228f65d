//! Plain text and Markdown files: one file is one example. The prompt asks for a text with the file's title, and the rest
//! of the file is the response.

use std::path::Path;

use super::source::{malformed, utf8};
use crate::Result;
use crate::profile::Example;

/// The largest file that is read, in bytes. No text in it is longer than an example may be, with room for its front matter.
pub(super) const MAX_FILE_BYTES: u64 = 2 << 20;

/// The example in a text file with these bytes; `path` is for messages only. The title is that of the front matter
/// (`---`, `title: …`, `---`), or else the first line that is not empty, without Markdown's `#`.
///
/// # Errors
///
/// [`crate::Error::Input`] when there is no title, or no text below it.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Example> {
    let text = utf8(path, bytes)?.replace("\r\n", "\n");
    let (title, body) = post(&text).ok_or_else(|| {
        malformed(
            path,
            "has no text after its title: write the title on the first line, the text below it",
        )
    })?;
    let prompt = format!("Write a text titled \"{title}\".");
    Ok(Example::new(prompt, body))
}

/// The title of a text, and the text below it; `None` when one of the two is missing.
pub(super) fn post(text: &str) -> Option<(&str, &str)> {
    let front = FrontMatter::parse(text);
    let body = front.as_ref().map_or(text, |front| front.body);
    let (title, body) = match front.and_then(|front| front.value("title")) {
        Some(title) => (title, body),
        None => first_line(body)?,
    };
    let body = body.trim();
    (!title.is_empty() && !body.is_empty()).then_some((title, body))
}

/// The front matter of a post: lines of `name: value` between lines of `---` (YAML), or of `name = value` between lines of
/// `+++` (TOML).
pub(super) struct FrontMatter<'a> {
    head: &'a str,
    separator: char,
    /// The text below the front matter.
    pub body: &'a str,
}

impl<'a> FrontMatter<'a> {
    /// The front matter of a text, if it has one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let between = |fence: &str, separator| {
            let rest = text.strip_prefix(fence)?.strip_prefix('\n')?;
            let (head, body) = rest.split_once(&format!("\n{fence}\n"))?;
            Some(Self {
                head,
                separator,
                body,
            })
        };
        between("---", ':').or_else(|| between("+++", '='))
    }

    /// The value of a field that is on the line of its name, without quotation marks.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(self.separator)?;
            (found.trim_end() == name).then(|| value.trim().trim_matches(['"', '\'']))
        })
    }
}

fn first_line(text: &str) -> Option<(&str, &str)> {
    let (title, body) = text.trim_start().split_once('\n')?;
    Some((title.trim_start_matches('#').trim(), body))
}
