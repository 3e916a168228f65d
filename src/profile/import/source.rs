//! Reads the files and folders of an import, with a limit on their size.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Result};

/// The largest file that is read, in bytes. A file is read as a whole, and a person's texts are smaller than this.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The entries of a folder, sorted by name.
pub(super) fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = listed.map_err(Error::io("read", folder))?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// Beginnings of files that hold no text in UTF-8, with what they are.
const OTHERS: [(&[u8], &str); 8] = [
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
    (
        b"\x28\xb5\x2f\xfd",
        "is compressed by Zstandard; unpack it first",
    ),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"PAR1", "is a Parquet file; write it as JSON Lines first"),
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

/// Says of a file that begins with these bytes why its text cannot be read; `None` if it may be one in UTF-8.
pub(super) fn why_no_text(beginning: &[u8]) -> Option<&'static str> {
    let known = OTHERS
        .iter()
        .find(|(magic, _)| beginning.starts_with(magic));
    // In UTF-16 without a byte-order mark, one byte of each Latin letter is 0.
    let is_utf_16 = matches!(beginning, [0, 1..=255, ..] | [1..=255, 0, ..]);
    known.map(|(_, what)| *what).or(is_utf_16.then_some(UTF_16))
}

/// Checks that a file may be a text in UTF-8.
///
/// # Errors
///
/// [`Error::Input`] with what the file is, if its beginning tells it.
pub(super) fn require_text(path: &Path) -> Result<()> {
    let mut beginning = Vec::new();
    open(path)?
        .take(64)
        .read_to_end(&mut beginning)
        .map_err(Error::io("read", path))?;
    why_no_text(&beginning).map_or(Ok(()), |what| Err(malformed(path, what)))
}

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::io("open", path))
}

/// The content of a file of limited size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(malformed(
            path,
            format_args!("is larger than {} MiB; split it", MAX_FILE_BYTES >> 20),
        ));
    }
    Ok(bytes)
}

/// The text in `bytes`, without a byte-order mark.
pub(super) fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.split(|&byte| byte == b'\n').count();
        malformed(
            path,
            format_args!(
                "line {line} is not valid UTF-8 (byte {} of the file)",
                good.len() + 1
            ),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// An [`Error::Input`] about the content of `path`.
pub(super) fn malformed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::Input(format!("{}: {what}", path.display()))
}
