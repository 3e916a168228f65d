//! The GGUF format: a bounded reader and a deterministic writer.
//!
//! ```text
//! "GGUF" | version u32 | n_tensors u64 | n_entries u64
//! n_entries × ( key | value type u32 | value )
//! n_tensors × ( name | n_dims u32 | dims u64… | ggml type u32 | offset u64 )
//! padding to the alignment
//! the tensors' data, one after another, each padded to the alignment
//! ```
//!
//! Strings are a u64 length and UTF-8 bytes; all numbers are little-endian. Like ggml's reader, this one demands that
//! the tensors follow one another without gaps. That single check makes sure that they are aligned, do not overlap and
//! lie inside the file.

mod parts;
mod read;
mod tensor;
mod tensor_source;
mod value;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub use crate::ggml_type::GgmlType;
pub use parts::is_part;
pub use tensor::{Sink, TensorData, TensorInfo};
pub use value::{Array, Value};
pub use write::write;

use crate::error::{Error, GgufFlaw, Result};

/// The name of this format, for messages.
pub(crate) const FORMAT: &str = "GGUF";

/// The checked header of a GGUF file, or of all files of a model in parts: everything but the tensors' data.
#[derive(Debug, Clone)]
pub struct Gguf {
    /// The file, for messages; of a model in parts, the first.
    pub path: PathBuf,
    /// All files of the model, in order: one, or its parts.
    pub parts: Vec<PathBuf>,
    /// The format's version, 2 or 3.
    pub version: u32,
    /// Keys and values, in the file's order; no key occurs twice.
    pub metadata: Vec<(String, Value)>,
    /// The tensors, in the file's order; no name occurs twice.
    pub tensors: Vec<TensorInfo>,
    /// The alignment of tensor data, in bytes; a power of two.
    pub alignment: u64,
    /// The index in `tensors` of each name.
    index: HashMap<String, usize>,
}

impl Gguf {
    /// Reads and checks the header of the file at `path`; the tensors' data stays on disk. Of a model in parts, `path` is the
    /// first, and the others lie beside it.
    ///
    /// Memory is bounded by a few times the size of the header, whatever the file claims. All tensors lie inside the
    /// file.
    ///
    /// # Errors
    ///
    /// The file is missing, is not a GGUF file, or has one of the faults of [`GgufFlaw`].
    pub fn open(path: &Path) -> Result<Self> {
        parts::join(read::open_file(path)?)
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

    /// The number of a metadata key, whose type may be any integer type if the value fits a `u32`.
    ///
    /// # Errors
    ///
    /// The key is missing, or its value is not such a number.
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

    /// The length of all files together, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], if a file is gone.
    pub fn n_file_bytes(&self) -> Result<u64> {
        let lengths = self.parts.iter().map(|part| {
            let file = std::fs::metadata(part).map_err(Error::io("read", part))?;
            Ok(file.len())
        });
        lengths.sum()
    }

    /// The type of most weights; `None` for a file without tensors.
    #[must_use]
    pub fn main_type(&self) -> Option<GgmlType> {
        let mut counts = BTreeMap::<u32, (u64, GgmlType)>::new();
        for tensor in &self.tensors {
            let counted = counts.entry(tensor.ggml_type.id());
            counted.or_insert((0, tensor.ggml_type)).0 += tensor.shape.iter().product::<u64>();
        }
        let most = counts.into_values().max_by_key(|(n, _)| *n);
        most.map(|(_, ggml_type)| ggml_type)
    }

    /// Makes sure that the file is no adapter's.
    ///
    /// # Errors
    ///
    /// [`Error::NotModel`].
    pub fn require_model(&self) -> Result<()> {
        match self.get("general.type").and_then(Value::as_str) {
            Some("adapter") => Err(Error::NotModel(self.path.clone())),
            _ => Ok(()),
        }
    }

    /// The tensor with this name, if the file has it.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The bytes of a tensor of this file, as they are stored, `[n_bytes]`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has shrunk since it was opened.
    pub fn read(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        tensor.read_part(0, tensor.n_bytes)
    }

    /// The value of `key`, converted by `convert`, which returns `None` for a value that is not of the `expected` type.
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
