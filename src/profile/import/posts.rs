//! Folders of posts in Markdown, as generators of static sites use them.

use super::Imported;
use super::export_files::ExportFile;
use super::source::utf8;
use super::text::{FrontMatter, MAX_FILE_BYTES, post};
use crate::Result;

/// The posts in these files, sorted by date. When authors are named, posts by others are skipped.
///
/// # Errors
///
/// [`crate::Error::Io`] when a file cannot be read.
pub(super) fn import(files: &[&ExportFile], authors: &[String]) -> Result<Imported> {
    let mut imported = Imported::default();
    let mut posts = Vec::new();
    for file in files {
        if file.n_bytes() > MAX_FILE_BYTES {
            imported.skip_long();
            continue;
        }
        let bytes = file.content(MAX_FILE_BYTES)?;
        let Ok(text) = utf8(file.path(), &bytes) else {
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
                posts.push((date, file.name(), title.to_owned(), body.to_owned()));
            }
        }
    }
    posts.sort();
    for (_, _, title, body) in posts {
        imported.add(format!("Write a text titled \"{title}\"."), body);
    }
    Ok(imported)
}
