//! A folder of posts in Markdown, as the generators of static sites keep them.

use std::path::{Path, PathBuf};

use super::Imported;
use super::source::{entries, malformed, read, utf8};
use super::text::{FrontMatter, post};
use crate::{Error, Result};

/// The posts in `folder` and those below it, by their dates. With authors, posts that name another are left.
///
/// # Errors
///
/// [`Error::Io`] when something cannot be read.
pub(super) fn import(folder: &Path, authors: &[String]) -> Result<Imported> {
    let mut paths = Vec::new();
    find(folder, &mut paths)?;
    let mut imported = Imported::default();
    let mut posts = Vec::new();
    for path in paths {
        let bytes = read(&path)?;
        let Ok(text) = utf8(&path, &bytes) else {
            imported.leave("not UTF-8");
            continue;
        };
        let text = text.replace("\r\n", "\n");
        let front = FrontMatter::of(&text);
        let of = |name| front.as_ref().and_then(|front| front.value(name));
        if of("draft") == Some("true") || of("published") == Some("false") {
            imported.leave("a draft");
            continue;
        }
        let by = of("author").map(str::to_lowercase);
        let is_own = |by: &str| {
            authors
                .iter()
                .any(|author| by.contains(&author.to_lowercase()))
        };
        if !authors.is_empty() && by.is_some_and(|by| !is_own(&by)) {
            imported.leave("by another author");
            continue;
        }
        match post(&text) {
            None => imported.leave("no title, or no text below it"),
            Some((title, body)) => {
                let date = of("date").unwrap_or_default().to_owned();
                posts.push((date, path, title.to_owned(), body.to_owned()));
            }
        }
    }
    posts.sort();
    for (_, _, title, body) in posts {
        imported.take(format!("Write a text titled \"{title}\"."), body);
    }
    Ok(imported)
}

/// The Markdown files of a folder and of those below it, hidden ones and links aside.
fn find(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in entries(folder)? {
        let kind = entry.file_type().map_err(Error::io("read", folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_hidden = name.to_string_lossy().starts_with('.');
        let extension = path.extension().and_then(|extension| extension.to_str());
        if is_hidden {
        } else if kind.is_dir() {
            find(&path, paths)?;
        } else if kind.is_file() && matches!(extension, Some("md" | "markdown")) {
            paths.push(path);
        }
    }
    if paths.len() > MAX_POSTS {
        return Err(malformed(
            folder,
            format_args!("holds more than {MAX_POSTS} posts"),
        ));
    }
    Ok(())
}

/// More files are hardly one person's.
const MAX_POSTS: usize = 100_000;
