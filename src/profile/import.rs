//! Histories from the files that people have.

mod chats;
mod csv;
mod git;
pub mod jsonl;
pub mod lamp;
mod mail;
mod posts;
mod source;
pub mod text;

use std::collections::BTreeMap;
use std::path::Path;

pub use chats::{Speaker, sharegpt};
use source::{malformed, read};

use super::Example;
use crate::Result;
use crate::error::Unspecified;

/// What a file itself does not say.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The user's id in a LaMP file.
    pub lamp_user: Option<String>,
    /// Whose mails or commits are the user's own: addresses, or names or parts of them.
    pub authors: Vec<String>,
    /// The columns of a CSV file that hold prompts and responses.
    pub columns: Option<[String; 2]>,
    /// Who of a chat is the user.
    pub speaker: Option<Speaker>,
}

/// Reads the examples of `path`. A file's extension tells what it is: `.jsonl`; `.json`, a LaMP file or a chat of
/// `ShareGPT`'s or `ChatGPT`'s form; `.csv` and `.tsv`; `.mbox`; `.txt` and `.md`. A folder is a git repository, a Maildir or
/// one of posts in Markdown.
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io) when it cannot be read; [`Error::Input`](crate::Error::Input) with the file and, where there is one, the line when it is
/// malformed, of a kind that is not known, or holds nothing of use, or when an option is missing.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported> {
    let imported = if path.is_dir() {
        folder(path, options)?
    } else {
        file(path, options)?
    };
    if imported.examples.is_empty() {
        let left = imported.left.iter();
        let left: Vec<_> = left.map(|(why, n)| format!("{n} left: {why}")).collect();
        let why = if left.is_empty() {
            "holds no items".to_owned()
        } else {
            format!("holds no items of use ({})", left.join("; "))
        };
        return Err(malformed(path, why));
    }
    Ok(imported)
}

fn folder(path: &Path, options: &ImportOptions) -> Result<Imported> {
    if git::is_repository(path) {
        git::import(path, &options.authors)
    } else if mail::is_maildir(path) {
        mail::import_maildir(path, &options.authors)
    } else {
        posts::import(path, &options.authors)
    }
}

fn file(path: &Path, options: &ImportOptions) -> Result<Imported> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" => {
            let bytes = read(path)?;
            match chats::parse_lines(path, &bytes, options.speaker)? {
                Some(imported) => Ok(imported),
                None => Ok(Imported::whole(jsonl::parse(path, &bytes)?)),
            }
        }
        "json" => {
            let bytes = read(path)?;
            if let Some(imported) = chats::parse(path, &bytes, options.speaker)? {
                return Ok(imported);
            }
            let lamp = lamp::parse(path, &bytes)?;
            let user = lamp.into_user(path, options.lamp_user.as_deref())?;
            Ok(Imported::whole(user.history))
        }
        "csv" => csv::parse(path, &read(path)?, b',', options.columns.as_ref()),
        "tsv" => csv::parse(path, &read(path)?, b'\t', options.columns.as_ref()),
        "mbox" => mail::import_mbox(path, &options.authors),
        "txt" | "md" | "markdown" => Ok(Imported::whole(vec![text::parse(path, &read(path)?)?])),
        _ => Err(malformed(
            path,
            "is of no known kind: .jsonl, .json, .csv, .tsv, .mbox, .txt, .md, or a folder",
        )),
    }
}

/// Longer texts of mailboxes, repositories and the like are left: they are rarely what a person would have a model write,
/// and fit few contexts.
const MAX_CHARACTERS: usize = 24_000;

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// What was taken, oldest first where that is known.
    pub examples: Vec<Example>,
    /// How many items were left, by the reason.
    pub left: BTreeMap<String, usize>,
}

impl Imported {
    /// Takes an item if it can be trained on, else leaves it.
    fn take(&mut self, prompt: impl Into<String>, response: impl Into<String>) {
        self.take_example(Example::new(prompt, response));
    }

    /// As [`take`](Self::take).
    fn take_example(&mut self, example: Example) {
        let texts = example.prompt.iter().map(|message| &message.content);
        let n = texts
            .chain([&example.response])
            .map(|text| text.chars().count());
        if n.sum::<usize>() > MAX_CHARACTERS {
            self.leave(format!("longer than {MAX_CHARACTERS} characters"));
            return;
        }
        match example.checked() {
            Ok(example) => self.examples.push(example),
            Err(why) => self.leave(why),
        }
    }

    /// Leaves an item.
    fn leave(&mut self, why: impl Into<String>) {
        *self.left.entry(why.into()).or_default() += 1;
    }

    fn whole(examples: Vec<Example>) -> Self {
        Self {
            examples,
            left: BTreeMap::new(),
        }
    }
}

/// Whose the texts of `path` are to be, which has to be said.
fn need_authors(path: &Path, authors: &[String], texts: &str) -> Result<()> {
    if authors.iter().any(|author| !author.trim().is_empty()) {
        return Ok(());
    }
    Err(Unspecified::Author {
        path: path.to_owned(),
        texts: texts.to_owned(),
    }
    .into())
}
