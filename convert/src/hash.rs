//! The SHA-256 of a file, by which a base is identified.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file::open_regular;
use crate::gguf::FORMAT;

/// Bytes hashed at a time: large enough to make system calls cheap, small enough for a CPU cache.
const CHUNK_BYTES: usize = 64 * 1024;

/// The SHA-256 of a file, as 64 lower-case hexadecimal digits. Only a small part of the file is in memory at a time.
///
/// # Errors
///
/// The file is missing, is not a regular file, or cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let (mut file, _) = open_regular(path, FORMAT)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = file.read(&mut chunk).map_err(Error::io("read", path))?;
        if n == 0 {
            break;
        }
        hasher.update(&chunk[..n]);
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("a String takes any text");
    }
    Ok(hex)
}
