//! Imports histories from the files that people have: one module per format.

mod activity;
mod authors;
mod collection;
mod csv;
mod export_files;
mod git;
mod html_blocks;
pub mod json;
mod kind;
pub mod lamp;
mod mail;
mod marks;
mod messengers;
mod parquet;
mod posts;
mod source;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use export_files::{ExportFile, ExportFiles};
use json::JsonKind;
pub use json::{Speaker, sharegpt};
use kind::{FileKind, READABLE};
use mail::{MailFile, Mailbox};
use messengers::{Chats, is_unknown_chat};
use serde::Serialize;
use source::malformed;

use super::{Example, Masked, Masking};
use crate::Result;
use crate::error::{TextCounts, Unspecified};

/// Facts that a file itself does not state.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The id of the user in a LaMP file.
    pub lamp_user: Option<String>,
    /// The authors whose texts are the user's own: e-mail addresses or names, and for commits and posts also parts of names.
    pub authors: Vec<String>,
    /// The names of a table's columns that hold prompts and responses.
    pub columns: Option<[String; 2]>,
    /// The speaker of a chat whose texts are the user's; by default the one that the format suggests.
    pub speaker: Option<Speaker>,
    /// Whether the signatures of mails are kept.
    pub keep_signature: bool,
    /// The choice of what is masked in all texts.
    pub masking: Masking,
}

/// One of the [`ImportOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportOption {
    /// [`ImportOptions::lamp_user`].
    LampUser,
    /// [`ImportOptions::authors`].
    Authors,
    /// [`ImportOptions::columns`].
    Columns,
    /// [`ImportOptions::speaker`].
    Speaker,
    /// [`ImportOptions::keep_signature`].
    KeepSignature,
}

/// Reads the examples in `path`: a file, a folder, or a zip archive, which is read as a folder is. JSON is recognised by its
/// content, mails by both, and other files by their extension:
///
/// | file | format |
/// |---|---|
/// | chats of messengers, by their content | see `messengers` |
/// | JSON, and any `.json`, `.jsonl` or `.ndjson`; Parquet | see [`json`] |
/// | `.csv`, `.tsv` | a table with a header |
/// | `.mbox`, `.eml`, `.emlx`, files that begin as a mailbox, and those of a Maildir | mails |
/// | `.txt` | see [`text`] |
/// | `.md`, `.markdown` | alone a text, in a folder a post with a date and an author |
/// | a folder | a git repository, or all files in it that are of one of these kinds |
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io) when the path cannot be read; [`Error::Input`](crate::Error::Input), with the file and
/// where possible the line, when it is malformed, of an unknown format or without a usable example;
/// [`Error::Unspecified`](crate::Error::Unspecified) when it needs an option that is not given.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported> {
    Ok(import_all(&[path], options)?.remove(0))
}

/// Reads the examples in several paths, each as [`import`] does. A path may be without a usable example if another has one.
///
/// # Errors
///
/// Those of [`import`].
pub fn import_all(paths: &[impl AsRef<Path>], options: &ImportOptions) -> Result<Vec<Imported>> {
    let mut all = Vec::new();
    let mut room = MAX_TEXTS_BYTES;
    for path in paths {
        let path = path.as_ref();
        let mut imported = if path.is_dir() && git::is_repository(path) {
            git::import(path, &options.authors)?.with(ImportOption::Authors)
        } else {
            let files = ExportFiles::find(path)?;
            match files.alone().filter(|file| file.path() == path) {
                Some(file) => alone(file, options)?,
                None => collection::import(&files, options)?,
            }
        };
        imported.keep_within(&mut room);
        imported.mask(&options.masking);
        all.push(imported);
    }
    if all.iter().all(|imported| imported.examples.is_empty())
        && let Some((path, imported)) = paths.iter().zip(&all).next()
    {
        return Err(malformed(path.as_ref(), imported.why_empty()));
    }
    Ok(all)
}

/// The examples of one file.
fn alone(file: &ExportFile, options: &ImportOptions) -> Result<Imported> {
    let path = file.path();
    let mut chats = Chats::default();
    if chats.claim(file)? {
        return chats.import(path, None, options);
    }
    match FileKind::of(file)? {
        FileKind::Json => of_json(file, options),
        FileKind::Activity => activity::import(file, options),
        FileKind::Mail(form) => {
            let file = file.clone();
            let files = vec![MailFile { file, form }];
            Mailbox { path, files }.import(options)
        }
        FileKind::Table(separator) => csv::import(file, separator, options),
        FileKind::Markdown | FileKind::Text if file.n_bytes() > text::MAX_FILE_BYTES => {
            let mut imported = Imported::default();
            imported.skip_long();
            Ok(imported)
        }
        kind @ (FileKind::Markdown | FileKind::Text) => {
            let text = file.content(text::MAX_FILE_BYTES)?;
            if kind == FileKind::Text && is_unknown_chat(&String::from_utf8_lossy(&text)) {
                return Err(malformed(path, UNKNOWN_CHAT));
            }
            Ok(Imported::complete(vec![text::parse(path, &text)?]))
        }
        FileKind::Unreadable(what) => Err(malformed(path, what)),
        FileKind::NoText(what) => Err(malformed(
            path,
            format_args!("is {what}, and texts are needed: {READABLE}"),
        )),
        FileKind::Unknown => Err(malformed(
            path,
            format_args!("is of an unknown format; known are {READABLE}"),
        )),
    }
}

/// The examples of a file in JSON or Parquet.
fn of_json(file: &ExportFile, options: &ImportOptions) -> Result<Imported> {
    let user = options.lamp_user.as_deref();
    match json::kind(file)? {
        JsonKind::Users => lamp::import(file, false, user),
        JsonKind::Questions => lamp::import(file, true, user),
        JsonKind::Golds => Err(lamp::refuse_golds(file)),
        _ => json::import(file, options),
    }
}

/// The message about a chat in no known form.
const UNKNOWN_CHAT: &str = "looks like a chat, with other people's words in it, of a program that is not known; known are \
     WhatsApp, Telegram, Signal, LINE, Slack, Discord, Messenger, Instagram and X. If all of it is the user's own, save it as .md";

/// The longest example, in bytes, that is taken. Longer ones fit few contexts, and people rarely want a model to write such
/// texts. Characters of other scripts than the Latin one take more bytes, as they take more tokens.
const MAX_BYTES: usize = 24_000;

/// The most bytes of texts that one import takes: more than a person writes in a lifetime, and so much that texts, and those
/// that the user has already, stay within a few hundred megabytes of memory.
const MAX_TEXTS_BYTES: usize = 100_000_000;

/// The name of what is cut from answers of models that think.
const THOUGHTS: &str = "thoughts of a model";

/// The side of a program's chats with assistants whose texts were taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TakenSide {
    /// The program's name.
    pub program: String,
    /// The side.
    pub speaker: Speaker,
}

impl fmt::Display for TakenSide {
    /// For example `of chats of ChatGPT the person's texts`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.speaker {
            Speaker::Human => "person's",
            Speaker::Assistant => "assistant's",
        };
        write!(f, "of chats of {} the {whose} texts", self.program)
    }
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The examples, oldest first where the format tells their order.
    pub examples: Vec<Example>,
    /// The bytes of their texts.
    n_bytes: usize,
    /// The number of skipped items, by the reason.
    pub skipped: BTreeMap<String, usize>,
    /// The number of examples from which something was cut that the user did not write, by what it is: thoughts of a model,
    /// and of mails quotations, signatures and the like.
    pub cut: BTreeMap<&'static str, usize>,
    /// Whose texts were taken of chats with assistants.
    pub taken: BTreeSet<TakenSide>,
    /// The number of places where something was masked, by its kind.
    pub masked: Masked,
    /// The options that apply to what was read, whether they were given or not.
    pub applied: BTreeSet<ImportOption>,
}

impl Imported {
    /// Adds an example with one user message, or skips it as [`add_example`](Self::add_example) does.
    fn add(&mut self, prompt: impl Into<String>, response: impl Into<String>) {
        self.add_example(Example::new(prompt, response));
    }

    /// Adds an example if it can be trained on, is not too long and has no marks of a chat template around its texts, and skips
    /// it otherwise.
    fn add_example(&mut self, mut example: Example) {
        let is_cut = example.cut_thoughts();
        self.count_cut(THOUGHTS, usize::from(is_cut));
        if example.n_bytes() > MAX_BYTES {
            self.skip_long();
            return;
        }
        if let Some(why) = marks::why_marked(&example) {
            self.skip(why);
            return;
        }
        match example.checked() {
            Ok(example) => self.push(example),
            Err(why) => self.skip(why),
        }
    }

    /// Adds an example, or skips it once there is as much text as an import takes.
    fn push(&mut self, example: Example) {
        let n_bytes = example.n_bytes();
        if self.n_bytes + n_bytes > MAX_TEXTS_BYTES {
            self.skip_beyond();
            return;
        }
        self.n_bytes += n_bytes;
        self.examples.push(example);
    }

    /// Drops the examples for which there is no room after those of other files.
    fn keep_within(&mut self, room: &mut usize) {
        if self.n_bytes <= *room {
            *room -= self.n_bytes;
            return;
        }
        for example in std::mem::take(&mut self.examples) {
            match room.checked_sub(example.n_bytes()) {
                Some(left) => {
                    *room = left;
                    self.examples.push(example);
                }
                None => self.skip_beyond(),
            }
        }
    }

    /// Notes that of a program's chats the texts of `speaker` are taken.
    fn take_from(&mut self, program: &str, speaker: Speaker) {
        self.taken.insert(TakenSide {
            program: program.to_owned(),
            speaker,
        });
    }

    /// Says of an import without examples what became of the items.
    fn why_empty(&self) -> String {
        let skipped = self.skipped.iter();
        let skipped: Vec<_> = skipped
            .map(|(why, n)| format!("{n} skipped: {why}"))
            .collect();
        if skipped.is_empty() {
            "holds no items".to_owned()
        } else {
            format!("holds no usable items ({})", skipped.join("; "))
        }
    }

    /// Masks the texts of all examples.
    fn mask(&mut self, masking: &Masking) {
        for example in &mut self.examples {
            masking.mask(example.texts_mut(), &mut self.masked);
        }
    }

    /// Notes that `option` applies to what was read.
    fn with(mut self, option: ImportOption) -> Self {
        self.applied.insert(option);
        self
    }

    /// Counts `n` examples from which something was cut.
    fn count_cut(&mut self, what: &'static str, n: usize) {
        if n > 0 {
            *self.cut.entry(what).or_default() += n;
        }
    }

    /// Adds what was read elsewhere.
    fn merge(&mut self, other: Self) {
        for example in other.examples {
            self.push(example);
        }
        for (why, n) in other.skipped {
            *self.skipped.entry(why).or_default() += n;
        }
        for (what, n) in other.cut {
            self.count_cut(what, n);
        }
        self.taken.extend(other.taken);
        self.applied.extend(other.applied);
    }

    /// Counts an item that is too long.
    fn skip_long(&mut self) {
        self.skip(format!("longer than {MAX_BYTES} bytes"));
    }

    /// Counts an item for which there is no room.
    fn skip_beyond(&mut self) {
        let megabytes = MAX_TEXTS_BYTES / 1_000_000;
        self.skip(format!(
            "beyond {megabytes} MB of texts, the most that one import takes"
        ));
    }

    /// Counts a skipped item.
    fn skip(&mut self, why: impl Into<String>) {
        *self.skipped.entry(why.into()).or_default() += 1;
    }

    /// The result of an import that skips nothing but examples that are too long or mere thoughts.
    fn complete(examples: Vec<Example>) -> Self {
        let mut imported = Self::default();
        for mut example in examples {
            let is_cut = example.cut_thoughts();
            imported.count_cut(THOUGHTS, usize::from(is_cut));
            if example.n_bytes() > MAX_BYTES {
                imported.skip_long();
                continue;
            }
            match example.checked() {
                Ok(example) => imported.push(example),
                Err(_) => imported.skip("a thought without an answer"),
            }
        }
        imported
    }
}

/// Checks that an author is named, without whom the texts of `path` cannot be told from other people's.
fn require_authors(path: &Path, authors: &[String], texts: &str) -> Result<()> {
    if authors.iter().any(|author| !author.trim().is_empty()) {
        return Ok(());
    }
    Err(Unspecified::Author {
        path: path.to_owned(),
        texts: texts.to_owned(),
        people: TextCounts::default(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quarter more texts than an import takes.
    fn too_many() -> Imported {
        let text = "x".repeat(20_000);
        let mut imported = Imported::default();
        for _ in 0..MAX_TEXTS_BYTES / 16_000 {
            imported.add("?", text.as_str());
        }
        imported
    }

    #[test]
    fn an_import_takes_at_most_100_mb_of_texts_and_counts_the_rest() {
        let mut imported = too_many();
        assert_eq!(imported.examples.len(), 4_999);
        let left = "beyond 100 MB of texts, the most that one import takes";
        assert_eq!(imported.skipped, [(left.to_owned(), 1_251)].into());
        // A second file finds the room that the first has left.
        let mut room = imported.n_bytes + 20_001;
        imported.keep_within(&mut room);
        assert_eq!((imported.examples.len(), room), (4_999, 20_001));
        let mut second = too_many();
        second.keep_within(&mut room);
        assert_eq!((second.examples.len(), room), (1, 0));
        assert_eq!(second.skipped[left], 1_251 + 4_998);
        imported.merge(second);
        assert_eq!(imported.examples.len(), 4_999);
        assert_eq!(imported.skipped[left], 1_251 + 1_251 + 4_998 + 1);
    }
}
