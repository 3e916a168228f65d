//! The GGUF format: a bounded reader and a deterministic writer.
//!
//! ```text
//! "GGUF" | version u32 | n_tensors u64 | n_entries u64
//! n_entries × ( key | value type u32 | value )
//! n_tensors × ( name | n_dims u32 | dims u64… | ggml type u32 | offset u64 )
//! padding to the alignment
//! tensor data, one after another, each padded to the alignment
//! ```
//!
//! Strings are a u64 length and UTF-8 bytes; all numbers are little-endian. ggml's reader demands that the tensors follow
//! one another without gaps, and so does this one: a single check then keeps them aligned, apart and inside the file.

mod ggml_type;
mod read;
mod source;
mod tensor;
mod value;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use ggml_type::GgmlType;
pub use tensor::{Sink, TensorData, TensorInfo};
pub use value::{Array, Value};
pub use write::write;

use crate::error::{Error, GgufFlaw, Result};
use crate::file::read_at;

/// What this format is called.
pub(crate) const FORMAT: &str = "GGUF";

/// The header of a GGUF file: everything but the tensors' data, checked.
#[derive(Debug, Clone)]
pub struct Gguf {
    /// The file, for reading tensors and for messages.
    pub path: PathBuf,
    /// The format's version, 2 or 3.
    pub version: u32,
    /// Keys and values, in the file's order; no key occurs twice.
    pub metadata: Vec<(String, Value)>,
    /// The tensors, in the file's order; no name occurs twice.
    pub tensors: Vec<TensorInfo>,
    /// What tensor data is aligned to, in bytes; a power of two.
    pub alignment: u64,
    /// Where in `tensors` a name stands.
    index: HashMap<String, usize>,
}

impl Gguf {
    /// Reads and checks the header of the file at `path`; the tensors' data stays on disk.
    ///
    /// Memory is bounded by a few times the header, whatever the file claims. All tensors lie inside the file.
    ///
    /// # Errors
    ///
    /// The file is missing, no GGUF file, or lies in one of the ways of [`GgufFlaw`].
    pub fn open(path: &Path) -> Result<Self> {
        read::open(path)
    }

    /// The value of a metadata key, if the file has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata
            .iter()
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The text of a metadata key.
    ///
    /// # Errors
    ///
    /// The key is missing or is not a string.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "string", Value::as_str)
    }

    /// The number of a metadata key, of any integer type that fits a `u32`.
    ///
    /// # Errors
    ///
    /// The key is missing or is no such number.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.typed(key, "u32", Value::as_u32)
    }

    /// The number of a metadata key of type `f32`.
    ///
    /// # Errors
    ///
    /// The key is missing or is not an `f32`.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "f32", Value::as_f32)
    }

    /// `general.architecture`, such as `llama`.
    ///
    /// # Errors
    ///
    /// The key is missing or is not a string.
    pub fn architecture(&self) -> Result<&str> {
        self.str("general.architecture")
    }

    /// The tensor of a name, if the file has it.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The bytes of a tensor of this file as they stand, `[n_bytes]`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has shrunk since it was opened.
    pub fn read(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        read_at(&self.path, tensor.offset, tensor.n_bytes)
    }

    /// So many bytes of a tensor of this file, from `start` on.
    pub(crate) fn read_part(
        &self,
        tensor: &TensorInfo,
        start: u64,
        n_bytes: u64,
    ) -> Result<Vec<u8>> {
        read_at(&self.path, tensor.offset + start, n_bytes)
    }

    /// The value of `key` as `convert` sees it, which gives `None` for a value that is not of the `expected` type.
    fn typed<'g, T>(
        &'g self,
        key: &str,
        expected: &'static str,
        convert: fn(&'g Value) -> Option<T>,
    ) -> Result<T> {
        let refuse = |flaw| Error::Gguf {
            path: self.path.clone(),
            flaw,
        };
        let value = self
            .get(key)
            .ok_or_else(|| refuse(GgufFlaw::MissingKey(key.to_owned())))?;
        convert(value).ok_or_else(|| {
            refuse(GgufFlaw::KeyType {
                key: key.to_owned(),
                expected,
                got: value.type_name(),
            })
        })
    }
}
