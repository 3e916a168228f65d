//! Files of one JSON value a line.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{open_if_there, write_atomic};
use crate::{Error, Result};

/// The values of a file; none when it is not there.
///
/// # Errors
///
/// [`Error::Io`], and [`Error::Damaged`] that names the line that is malformed.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let Some(file) = open_if_there(path)? else {
        return Ok(Vec::new());
    };
    let parse = |(number, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(Error::io("read", path))?;
        serde_json::from_str(&line).map_err(|error| Error::Damaged {
            path: path.to_owned(),
            reason: format!("line {number}: {error}"),
        })
    };
    (1..).zip(BufReader::new(file).lines()).map(parse).collect()
}

/// Replaces a file by one with these values.
///
/// # Errors
///
/// [`Error::Io`]; an older file is then as it was.
pub fn write_jsonl(path: &Path, values: &[impl Serialize]) -> Result<()> {
    write_atomic(path, |writer: &mut dyn Write| {
        values.iter().try_for_each(|value| {
            serde_json::to_writer(&mut *writer, value)?;
            writer.write_all(b"\n")
        })
    })
}

/// Adds one value at the end of a file.
///
/// # Errors
///
/// [`Error::Io`].
pub fn append_jsonl(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut line =
        serde_json::to_vec(value).map_err(|error| Error::io("write", path)(error.into()))?;
    line.push(b'\n');
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(&line))
        .map_err(Error::io("write", path))
}
