//! The SHA-256 of a file, by which a base is identified.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file::open_regular;
use crate::gguf::{FORMAT, Gguf, is_part};

/// Bytes hashed at a time: large enough to make system calls cheap, small enough for a CPU cache.
const CHUNK_BYTES: usize = 64 * 1024;

/// The files of a model: those of its parts if `path` is the first of them by its name, else `path` alone.
///
/// # Errors
///
/// The file has the name of a part, and is none of a model that can be opened.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if is_part(path) {
        Ok(Gguf::open(path)?.parts)
    } else {
        Ok(vec![path.to_owned()])
    }
}

/// The SHA-256 of a file, as 64 lower-case hexadecimal digits; of the first part of a model, that of all parts one after
/// the other. Only a small part of a file is in memory at a time.
///
/// # Errors
///
/// A file is missing, is not a regular file, or cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    for path in files(path)? {
        let (mut file, _) = open_regular(&path, FORMAT)?;
        loop {
            let n = file.read(&mut chunk).map_err(Error::io("read", &path))?;
            if n == 0 {
                break;
            }
            hasher.update(&chunk[..n]);
        }
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("a String takes any text");
    }
    Ok(hex)
}
