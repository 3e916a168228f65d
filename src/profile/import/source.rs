//! Reads folders and texts, and says of a file what is wrong with it.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::Path;

use crate::{Error, Result};

/// The entries of a folder, sorted by name.
pub(super) fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = listed.map_err(Error::io("read", folder))?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::io("open", path))
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
