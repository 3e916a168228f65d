//! Git repositories: a summary of a commit's changes is the prompt, its message the response.

mod isolated;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use isolated::Isolated;

use super::source::malformed;
use super::{Imported, require_authors};
use crate::Result;

/// The largest number of files that a summary lists; of the others it gives the number.
const MAX_FILES: usize = 20;

/// Separators before each commit and after its message. They are control characters that commit messages do not contain.
const COMMIT: char = '\u{1e}';
const MESSAGE_END: char = '\u{1f}';

pub(super) fn is_repository(path: &Path) -> bool {
    path.join(".git").exists() || path.join("HEAD").is_file() && path.join("objects").is_dir()
}

/// The commits of a repository by these authors, oldest first, without merges. An author matches by any part of the name or
/// the address, as the commit has them or as `.mailmap` changes them. Nothing in the folder is run, and nothing is fetched.
///
/// # Errors
///
/// [`Error::Unspecified`](crate::Error::Unspecified) when no author is named; [`Error::Input`](crate::Error::Input) when
/// there are no commits by them, or git fails; [`Error::Lack`](crate::Error::Lack) when git is not installed.
pub(super) fn import(path: &Path, authors: &[String]) -> Result<Imported> {
    require_authors(path, authors, "commits")?;
    let repository = Isolated::open(path)?;
    let by_authors = commits_by(path, &repository, authors)?;
    let format = format!("--format={COMMIT}%B{MESSAGE_END}");
    let arguments = [
        "log",
        "--stdin",
        "--no-walk=unsorted",
        "--no-ext-diff",
        "--no-textconv",
        "--numstat",
        "--summary",
        &format,
    ];
    let log = repository.run(&arguments, by_authors.join("\n").as_bytes())?;
    let mut imported = Imported::default();
    for commit in log.split(COMMIT).skip(1) {
        let (message, changes) = commit.split_once(MESSAGE_END).unwrap_or((commit, ""));
        match summary(changes) {
            None => imported.skip("the commit changes no file"),
            Some(summary) => imported.add(
                format!("Write the commit message for this change:\n\n{summary}"),
                without_trailers(message),
            ),
        }
    }
    Ok(imported)
}

/// The hashes of the commits by these authors, oldest first.
fn commits_by(path: &Path, repository: &Isolated, authors: &[String]) -> Result<Vec<String>> {
    let authors: Vec<_> = authors.iter().map(|author| author.to_lowercase()).collect();
    let arguments = [
        "log",
        "--reverse",
        "--no-merges",
        "--format=%H%x1f%an <%ae>%x1f%aN <%aE>",
        repository.head.as_str(),
    ];
    let log = repository.run(&arguments, b"")?;
    let mut hashes = Vec::new();
    let mut others = BTreeMap::<&str, usize>::new();
    for line in log.lines() {
        let mut fields = line.split(MESSAGE_END);
        let hash = fields.next().unwrap_or_default();
        if repository.boundary.iter().any(|end| end == hash) {
            continue;
        }
        let names: Vec<_> = fields.collect();
        let is_by = |name: &str| {
            authors
                .iter()
                .any(|author| name.to_lowercase().contains(author))
        };
        if names.iter().any(|name| is_by(name)) {
            hashes.push(hash.to_owned());
        } else {
            *others
                .entry(names.last().copied().unwrap_or_default())
                .or_default() += 1;
        }
    }
    if hashes.is_empty() {
        let mut others: Vec<_> = others.into_iter().collect();
        others.sort_by_key(|(_, n)| Reverse(*n));
        let known: Vec<_> = others.iter().map(|(author, _)| *author).take(3).collect();
        let what = format!(
            "has no commits by that author; it has some by {}",
            known.join(", ")
        );
        return Err(malformed(path, what));
    }
    Ok(hashes)
}

/// Summarises the output of `git log --numstat --summary` for one commit: a line per file with the numbers of added and
/// removed lines, then the files that are new or gone. `None` when there are no files.
fn summary(changes: &str) -> Option<String> {
    let mut files = Vec::new();
    let mut news = Vec::new();
    for line in changes.lines() {
        let mut fields = line.splitn(3, '\t');
        if let (Some(added), Some(removed), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        {
            files.push(match added.parse::<usize>() {
                Ok(added) => format!("{path}: {added} lines added, {removed} removed"),
                Err(_) => format!("{path}: not a text"),
            });
        } else if let Some((what, rest)) = line.trim().split_once(" mode ") {
            let path = rest.split_once(' ').map_or(rest, |(_, path)| path);
            match what {
                "create" => news.push(format!("new: {path}")),
                "delete" => news.push(format!("gone: {path}")),
                _ => {}
            }
        }
    }
    if files.is_empty() {
        return None;
    }
    let n_more = files.len().saturating_sub(MAX_FILES);
    files.truncate(MAX_FILES);
    news.truncate(MAX_FILES);
    if n_more > 0 {
        files.push(format!("and {n_more} files more"));
    }
    files.extend(news);
    Some(files.join("\n"))
}

/// A commit message without the trailers at its end, such as `Signed-off-by: …`.
fn without_trailers(message: &str) -> &str {
    let message = message.trim();
    let Some((before, last)) = message.rsplit_once("\n\n") else {
        return message;
    };
    let is_trailer = |line: &str| {
        line.split_once(": ").is_some_and(|(name, _)| {
            name.contains('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
    };
    if last.lines().all(is_trailer) {
        before.trim_end()
    } else {
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_lists_files_with_their_added_and_removed_lines() {
        let changes = "\n10\t2\tsrc/a b.rs\n-\t-\tlogo.png\n create mode 100644 logo.png\n delete mode 100644 old.rs\n";
        assert_eq!(
            summary(changes).unwrap(),
            "src/a b.rs: 10 lines added, 2 removed\nlogo.png: not a text\nnew: logo.png\ngone: old.rs"
        );
        let many = (0..25).fold(String::new(), |many, i| many + &format!("1\t0\tf{i}\n"));
        assert!(
            summary(&many)
                .unwrap()
                .ends_with("f19: 1 lines added, 0 removed\nand 5 files more")
        );
        assert_eq!(summary("\n"), None);
    }

    #[test]
    fn trailers_of_a_message_are_removed() {
        let message =
            "Mend it\n\nBecause: it was broken.\n\nSigned-off-by: A <a@b>\nChange-Id: I1\n";
        assert_eq!(
            without_trailers(message),
            "Mend it\n\nBecause: it was broken."
        );
        assert_eq!(without_trailers("Only: this\n"), "Only: this");
        assert_eq!(without_trailers("a\n\nnote: b"), "a\n\nnote: b");
    }
}
