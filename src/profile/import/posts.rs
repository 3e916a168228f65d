//! Folders of posts in Markdown, as generators of static sites use them.

use std::path::{Path, PathBuf};

use super::Imported;
use super::source::{entries, malformed, read, utf8, why_no_text};
use super::text::{FrontMatter, post};
use crate::{Error, Result};

/// The posts in `folder` and its subfolders, sorted by date. When authors are named, posts by others are skipped.
///
/// # Errors
///
/// [`Error::Io`] when a file or folder cannot be read; [`Error::Input`] when there are too many posts.
pub(super) fn import(folder: &Path, authors: &[String]) -> Result<Imported> {
    let mut paths = Vec::new();
    find(folder, &mut paths)?;
    let mut imported = Imported::default();
    let mut posts = Vec::new();
    for path in paths {
        let bytes = read(&path)?;
        if let Some(what) = why_no_text(&bytes) {
            imported.skip(format!("a file that {what}"));
            continue;
        }
        let Ok(text) = utf8(&path, &bytes) else {
            imported.skip("not UTF-8");
            continue;
        };
        let text = text.replace("\r\n", "\n");
        let front = FrontMatter::parse(&text);
        let value = |name| front.as_ref().and_then(|front| front.value(name));
        if value("draft") == Some("true") || value("published") == Some("false") {
            imported.skip("a draft");
            continue;
        }
        let author = value("author").map(str::to_lowercase);
        let is_own = |author: &str| {
            authors
                .iter()
                .any(|own| author.contains(&own.to_lowercase()))
        };
        if !authors.is_empty() && author.is_some_and(|author| !is_own(&author)) {
            imported.skip("by another author");
            continue;
        }
        match post(&text) {
            None => imported.skip("no title, or no text below it"),
            Some((title, body)) => {
                let date = value("date").unwrap_or_default().to_owned();
                posts.push((date, path, title.to_owned(), body.to_owned()));
            }
        }
    }
    posts.sort();
    for (_, _, title, body) in posts {
        imported.add(format!("Write a text titled \"{title}\"."), body);
    }
    Ok(imported)
}

/// Collects the Markdown files of a folder and its subfolders, except hidden files and symbolic links.
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

/// The largest number of posts; more are hardly one person's.
const MAX_POSTS: usize = 100_000;
