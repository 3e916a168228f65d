//! Files with one JSON value per line (JSONL).

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{open_if_there, write_atomic};
use crate::{Error, Result};

/// The values of a file; none when there is no such file.
///
/// # Errors
///
/// [`Error::Io`] when the file cannot be read; [`Error::Damaged`] with the number of the first malformed line.
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

/// The number of lines of a file; 0 when there is no such file.
///
/// # Errors
///
/// [`Error::Io`] when the file cannot be read.
pub(super) fn count_lines(path: &Path) -> Result<usize> {
    let Some(file) = open_if_there(path)? else {
        return Ok(0);
    };
    let (mut reader, mut n_lines) = (BufReader::new(file), 0);
    loop {
        let read = reader.fill_buf().map_err(Error::io("read", path))?;
        if read.is_empty() {
            return Ok(n_lines);
        }
        n_lines += read.split(|&byte| byte == b'\n').count() - 1;
        let n_bytes = read.len();
        reader.consume(n_bytes);
    }
}

/// Replaces a file by one with these values.
///
/// # Errors
///
/// The file cannot be written; an existing one is then unchanged.
pub fn write_jsonl(path: &Path, values: &[impl Serialize]) -> Result<()> {
    write_atomic(path, |writer: &mut dyn Write| {
        values.iter().try_for_each(|value| {
            serde_json::to_writer(&mut *writer, value)?;
            writer.write_all(b"\n")
        })
    })
}

/// Appends one value to a file, which is created if it is missing.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be written.
pub fn append_jsonl(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut line =
        serde_json::to_vec(value).map_err(|error| Error::io("write", path)(error.into()))?;
    line.push(b'\n');
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(&line))
        .map_err(Error::io("write", path))
}
