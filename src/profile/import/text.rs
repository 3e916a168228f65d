//! Plain text and Markdown files: one file is one item, its title the occasion and the rest what the user wrote.

use std::path::Path;

use super::source::{malformed, utf8};
use crate::Result;
use crate::profile::Example;

/// The item of a text file. The title is that of the front matter (`---`, `title: …`, `---`) or else the first line
/// that is not empty, without Markdown's `#`.
///
/// # Errors
///
/// [`crate::Error::Input`] when there is no title or no text after it.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Example> {
    let text = utf8(path, bytes)?.replace("\r\n", "\n");
    let (title, body) = post(&text).ok_or_else(|| {
        malformed(
            path,
            "has no text after its title: write the title on the first line, the text below it",
        )
    })?;
    Example::new(format!("Write a text titled \"{title}\"."), body)
        .checked()
        .map_err(|what| malformed(path, what))
}

/// The title of a text, and what stands below it; none unless there are both.
pub(super) fn post(text: &str) -> Option<(&str, &str)> {
    let front = FrontMatter::of(text);
    let body = front.as_ref().map_or(text, |front| front.body);
    let (title, body) = match front.and_then(|front| front.value("title")) {
        Some(title) => (title, body),
        None => first_line(body)?,
    };
    let body = body.trim();
    (!title.is_empty() && !body.is_empty()).then_some((title, body))
}

/// What a generator of static sites is told of a post: lines of `name: value` between lines of `---`, or of `name = value`
/// between lines of `+++`.
pub(super) struct FrontMatter<'a> {
    head: &'a str,
    separator: char,
    /// What follows it.
    pub body: &'a str,
}

impl<'a> FrontMatter<'a> {
    /// That of a text, if it has one.
    pub fn of(text: &'a str) -> Option<Self> {
        let of = |fence: &str, separator| {
            let rest = text.strip_prefix(fence)?.strip_prefix('\n')?;
            let (head, body) = rest.split_once(&format!("\n{fence}\n"))?;
            Some(Self {
                head,
                separator,
                body,
            })
        };
        of("---", ':').or_else(|| of("+++", '='))
    }

    /// A value that stands on the line of its name.
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
