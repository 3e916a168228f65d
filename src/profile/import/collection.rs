//! The files of a folder or an archive: all that are the user's are read, and the others counted.

use std::collections::BTreeSet;

use super::export_files::{ExportFile, ExportFiles};
use super::json::{self, JsonKind};
use super::kind::FileKind;
use super::mail::{MailFile, Mailbox};
use super::messengers::{Chats, is_unknown_chat};
use super::source::malformed;
use super::{ImportOption, ImportOptions, Imported, activity, alone, csv, of_json, posts, text};
use crate::Result;

/// Files by which documents are known that are zip archives, with what they are.
const DOCUMENTS: [(&str, &str); 3] = [
    (
        "[Content_Types].xml",
        "is a document of Microsoft Office; save it as .txt, and a table as .csv",
    ),
    (
        "mimetype",
        "is a document of OpenDocument or an e-book; save it as .txt",
    ),
    ("META-INF/MANIFEST.MF", "is a program, and holds no texts"),
];

/// Beginnings of the names of files that are about what lies beside them.
const ABOUT: [&str; 6] = [
    "readme",
    "license",
    "licence",
    "changelog",
    "contributing",
    "copying",
];

/// The reason to leave a file that lies beside or below a program's chats: it may be what somebody attached.
const BESIDE: &str = "a file beside a program's chats";

/// The files of a folder or an archive, by their kinds.
#[derive(Default)]
struct Collection<'a> {
    /// Chats that people have with each other.
    talks: Chats<'a>,
    /// JSON with a program's chats.
    chats: Vec<&'a ExportFile>,
    /// Other JSON.
    items: Vec<&'a ExportFile>,
    /// Pages of Google's with what a person did.
    records: Vec<&'a ExportFile>,
    mails: Vec<MailFile>,
    tables: Vec<(&'a ExportFile, u8)>,
    posts: Vec<&'a ExportFile>,
    texts: Vec<&'a ExportFile>,
    imported: Imported,
}

/// The examples of all files that are the user's.
///
/// # Errors
///
/// Those of each file's reading.
pub(super) fn import(files: &ExportFiles, options: &ImportOptions) -> Result<Imported> {
    let document = DOCUMENTS.iter().find(|(name, _)| files.get(name).is_some());
    if let Some((_, what)) = document {
        return Err(malformed(files.root(), what));
    }
    let mut collection = Collection::default();
    for file in files.iter() {
        collection.sort(file)?;
    }
    collection.leave_what_is_beside_chats();
    collection.read(files, options)
}

impl<'a> Collection<'a> {
    /// Puts a file to those of its kind, or counts it.
    fn sort(&mut self, file: &'a ExportFile) -> Result<()> {
        let kind = FileKind::of(file)?;
        match kind {
            FileKind::Mail(form) => {
                let file = file.clone();
                self.mails.push(MailFile { file, form });
            }
            // Settings of programs.
            _ if file.is_hidden() => {}
            _ if self.talks.claim(file)? => {}
            FileKind::Json => match json::kind(file)? {
                JsonKind::Chats => self.chats.push(file),
                JsonKind::Items | JsonKind::Users | JsonKind::Questions => self.items.push(file),
                // They are read with their questions.
                JsonKind::Golds => {}
                JsonKind::Unknown => self.imported.skip("a JSON file in no known form"),
            },
            FileKind::Activity => self.records.push(file),
            FileKind::Table(separator) => self.tables.push((file, separator)),
            FileKind::Markdown | FileKind::Text if is_about_others(file) => {
                self.imported.skip("a file about the others");
            }
            FileKind::Markdown => self.posts.push(file),
            FileKind::Text => self.texts.push(file),
            FileKind::Unreadable(what) => self.imported.skip(format!("a file that {what}")),
            FileKind::NoText(what) => self.imported.skip(format!("a file that is {what}")),
            FileKind::Unknown => self.imported.skip("a file of an unknown format"),
        }
        Ok(())
    }

    /// Leaves texts, tables and other JSON in the folders of a program's chats and below these.
    fn leave_what_is_beside_chats(&mut self) {
        let chats = self.chats.iter().copied().chain(self.talks.files());
        let folders: BTreeSet<_> = chats.map(super::export_files::ExportFile::folder).collect();
        let is_beside = |file: &ExportFile| {
            let name = file.name();
            let ends = name.match_indices('/').map(|(at, _)| at + 1);
            ends.chain([0]).any(|end| folders.contains(&name[..end]))
        };
        let imported = &mut self.imported;
        let mut is_left = |file: &ExportFile| {
            let is_beside = is_beside(file);
            if is_beside {
                imported.skip(BESIDE);
            }
            is_beside
        };
        self.items.retain(|file| !is_left(file));
        self.tables.retain(|(file, _)| !is_left(file));
        self.posts.retain(|file| !is_left(file));
        self.texts.retain(|file| !is_left(file));
    }

    fn read(self, files: &ExportFiles, options: &ImportOptions) -> Result<Imported> {
        let mut imported = self.imported;
        if !self.talks.is_empty() {
            imported.merge(self.talks.import(files.root(), Some(files), options)?);
        }
        for file in self.chats.iter().chain(&self.items) {
            imported.merge(of_json(file, options)?);
        }
        for file in self.records {
            imported.merge(activity::import(file, options)?);
        }
        if !self.mails.is_empty() {
            let mailbox = Mailbox {
                path: files.root(),
                files: self.mails,
            };
            imported.merge(mailbox.import(options)?);
        }
        for (file, separator) in self.tables {
            if options.columns.is_some() {
                imported.merge(csv::import(file, separator, options)?);
            } else {
                imported.skip("a table (--columns names its columns)");
            }
        }
        if !self.posts.is_empty() {
            let posts = posts::import(&self.posts, &options.authors)?;
            imported.merge(posts.with(ImportOption::Authors));
        }
        for file in self.texts {
            let text = file.content(text::MAX_FILE_BYTES);
            let is_chat = |it: &Vec<u8>| is_unknown_chat(&String::from_utf8_lossy(it));
            if text.as_ref().is_ok_and(is_chat) {
                imported.skip("a chat of a program that is not known");
                continue;
            }
            match text.and_then(|it| text::parse(file.path(), &it)) {
                Ok(example) => imported.add_example(example),
                Err(crate::Error::Input(_)) => imported.skip("no title, or no text below it"),
                Err(error) => return Err(error),
            }
        }
        // What is wrong with one file alone is told as if it had been given by itself.
        match files.alone().filter(|_| imported.examples.is_empty()) {
            Some(file) => alone(file, options),
            None => Ok(imported),
        }
    }
}

fn is_about_others(file: &ExportFile) -> bool {
    let name = file.file_name().to_lowercase();
    ABOUT.iter().any(|about| {
        name.strip_prefix(about)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
