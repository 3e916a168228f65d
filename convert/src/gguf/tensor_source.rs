//! A file that is read from its start. No read returns or allocates more than the file has left.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::{Error, GgufFlaw, Result};
use crate::file::open_regular;

use super::FORMAT;

/// The longest header accepted, in bytes. The headers of the largest vocabularies (262,144 tokens, with merges and a
/// copy of the original tokenizer file) take less than 50 MiB. Because of this cap, lists and strings need none of
/// their own.
pub(super) const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Bytes read from the file at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// A header that is being read. It remembers which field it is reading, so that every error can say where the file is
/// wrong.
pub(super) struct Source<'p> {
    path: &'p Path,
    reader: BufReader<File>,
    position: u64,
    length: u64,
    field: String,
}

impl<'p> Source<'p> {
    pub(super) fn open(path: &'p Path) -> Result<Self> {
        let (file, length) = open_regular(path, FORMAT)?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self {
            path,
            reader,
            position: 0,
            length,
            field: "the header".to_owned(),
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.path
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the whole file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Sets the name of the field that is read from here on, for errors.
    pub(super) fn enter(&mut self, field: String) {
        self.field = field;
    }

    /// The error for a flaw of the field that is being read.
    pub(super) fn refuse(&self, flaw: impl FnOnce(String) -> GgufFlaw) -> Error {
        Error::Gguf {
            path: self.path.to_owned(),
            flaw: flaw(self.field.clone()),
        }
    }

    /// The error for a file that ends too early.
    pub(super) fn truncated(&self) -> Error {
        self.refuse(|field| GgufFlaw::Truncated {
            field,
            length: self.length,
        })
    }

    /// Makes sure that `n_bytes` more can be read: the file has them, and the header stays within its cap.
    pub(super) fn expect(&self, n_bytes: u64) -> Result<()> {
        if n_bytes > self.length - self.position {
            return Err(self.truncated());
        }
        if n_bytes > MAX_HEADER_BYTES - self.position {
            return Err(self.refuse(|field| GgufFlaw::TooMany {
                field,
                what: "bytes of header",
                got: self.position + n_bytes,
                limit: MAX_HEADER_BYTES,
            }));
        }
        Ok(())
    }

    /// Fills `bytes` with the next bytes of the file.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let n_bytes = bytes.len() as u64;
        self.expect(n_bytes)?;
        self.reader
            .read_exact(bytes)
            .map_err(Error::io("read", self.path))?;
        self.position += n_bytes;
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next u32.
    pub(super) fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// The next u64.
    pub(super) fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// The next string.
    pub(super) fn string(&mut self) -> Result<String> {
        let n_bytes = self.u64()?;
        self.expect(n_bytes)?;
        let mut bytes = vec![0; n_bytes as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.refuse(|field| GgufFlaw::NotUtf8 { field }))
    }
}
