//! Tells what a file holds, by its content, and where that does not tell it by its name.

use super::export_files::ExportFile;
use super::mail::MailForm;
use super::{activity, json, parquet};
use crate::Result;

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Items in JSON, or in Parquet.
    Json,
    /// The page of Google's with what a person did.
    Activity,
    Mail(MailForm),
    /// A table, with the separator of its fields.
    Table(u8),
    /// A post.
    Markdown,
    Text,
    /// Something that cannot be read, as a sentence without its subject: `is in UTF-16; save it in UTF-8`.
    Unreadable(&'static str),
    /// Something that holds no text of a person's: `a picture`.
    NoText(&'static str),
    Unknown,
}

/// The files that can be read, for messages.
pub(super) const READABLE: &str =
    "JSON, Parquet, .csv, .tsv, .mbox, .eml, .txt, .md, and folders and zip archives of these";

/// Beginnings of files that hold no text in UTF-8, with what they are.
const BEGINNINGS: [(&[u8], &str); 18] = [
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
    (
        b"\x28\xb5\x2f\xfd",
        "is compressed by Zstandard; unpack it first",
    ),
    (b"BZh", "is compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ\0", "is compressed by xz; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
    (b"Rar!\x1a\x07", "is a RAR archive; unpack it first"),
    (
        b"PK\x03\x04",
        "is a zip archive in another; unpack the outer one first",
    ),
    (b"PK\x05\x06", "is an empty zip archive"),
    (b"%PDF", "is a PDF document; save its text as .txt"),
    (b"{\\rtf", "is a document in RTF; save it as .txt"),
    (
        b"\xd0\xcf\x11\xe0",
        "is a document or mail of an older Microsoft Office; save it as .txt or .eml",
    ),
    (
        b"!BDN",
        "is Outlook's store of mails; export them as .mbox or .eml",
    ),
    (
        b"SQLite format 3\0",
        "is a database (SQLite); export the texts from the program that wrote it",
    ),
    (b"GGUF", "is a model in GGUF, and no text"),
    (
        b"version https://git-lfs.github.com/spec/",
        "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`",
    ),
    (
        b"/annex/objects/",
        "is a pointer of git-annex, not the file itself; fetch it with `git annex get`",
    ),
];

const UTF_16: &str = "is in UTF-16; save it in UTF-8";

/// Extensions of files without texts, with what they are.
const NO_TEXTS: [(&[&str], &str); 7] = [
    (
        &[
            "jpg", "jpeg", "png", "gif", "webp", "heic", "bmp", "tif", "tiff", "svg", "ico", "avif",
        ],
        "a picture",
    ),
    (
        &[
            "opus", "ogg", "oga", "mp3", "m4a", "aac", "wav", "amr", "flac",
        ],
        "a recording",
    ),
    (&["mp4", "mov", "3gp", "webm", "mkv", "avi"], "a film"),
    (
        &["docx", "odt", "epub", "pptx", "odp"],
        "a document (save it as .txt)",
    ),
    (
        &["xlsx", "ods"],
        "a table of an office program (save it as .csv)",
    ),
    (&["vcf"], "an address"),
    (&["ics"], "a calendar"),
];

/// The bytes at the beginning of a file that are looked at.
const N_BEGINNING: u64 = 4096;

/// The bytes of a web page that are looked at. Styles come before its content.
const N_PAGE: u64 = 1 << 20;

impl FileKind {
    /// The kind of a file.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] and [`crate::Error::Input`] when the file cannot be read.
    pub fn of(file: &ExportFile) -> Result<Self> {
        let extension = file.extension();
        let extension = extension.as_str();
        let no_text = NO_TEXTS
            .iter()
            .find(|(known, _)| known.contains(&extension));
        if let Some((_, what)) = no_text {
            return Ok(Self::NoText(what));
        }
        let beginning = file.beginning(N_BEGINNING)?;
        if beginning.starts_with(parquet::MAGIC) {
            return Ok(if file.is_zipped() {
                Self::Unreadable("is a Parquet file in an archive; unpack it first")
            } else {
                Self::Json
            });
        }
        if let Some(what) = why_no_text(&beginning) {
            return Ok(Self::Unreadable(what));
        }
        let is_json = match extension {
            "json" | "jsonl" | "ndjson" => true,
            // A post may begin with its front matter in JSON.
            "md" | "markdown" => false,
            _ => json::begins(&beginning),
        };
        if is_json {
            return Ok(Self::Json);
        }
        if ["html", "htm"].contains(&extension) {
            return Ok(if activity::is_record(&file.beginning(N_PAGE)?) {
                Self::Activity
            } else {
                Self::NoText("a web page")
            });
        }
        if let Some(form) = MailForm::of(file, &beginning) {
            return Ok(Self::Mail(form));
        }
        Ok(match extension {
            "csv" => Self::Table(b','),
            "tsv" => Self::Table(b'\t'),
            "md" | "markdown" => Self::Markdown,
            "txt" => Self::Text,
            _ => Self::Unknown,
        })
    }
}

/// Says of a file that begins with these bytes why its text cannot be read; `None` if it may be one in UTF-8.
pub(super) fn why_no_text(beginning: &[u8]) -> Option<&'static str> {
    let known = BEGINNINGS
        .iter()
        .find(|(magic, _)| beginning.starts_with(magic));
    // In UTF-16 without a byte-order mark, one byte of each Latin letter is 0.
    let is_utf_16 = matches!(beginning, [0, 1..=255, ..] | [1..=255, 0, ..]);
    known.map(|(_, what)| *what).or(is_utf_16.then_some(UTF_16))
}
