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
