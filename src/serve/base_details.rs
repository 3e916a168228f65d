//! Facts about the base's file that clients are told: its family, size and type, and its metadata.

use std::path::Path;
use std::time::SystemTime;

use cope_convert::gguf::{self, GgmlType, Gguf};
use serde_json::{Map, Value, json};

use crate::home::Home;
use crate::{Error, Result};

/// Facts about the base's file.
#[derive(Clone, Debug)]
pub struct BaseDetails {
    /// The architecture, such as `llama`.
    pub family: String,
    /// The number of weights.
    pub n_weights: u64,
    /// The name of the type that most weights have, such as `Q4_1`.
    pub weight_type: &'static str,
    /// The length of the file, in bytes.
    pub n_bytes: u64,
    /// When the file was changed last.
    pub modified: SystemTime,
    /// The hash of the file.
    pub sha256: String,
    /// The file's metadata except lists, such as the vocabulary.
    pub metadata: Map<String, Value>,
}

impl BaseDetails {
    /// The details of the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a GGUF file.
    pub fn of_file(home: &Home, path: &Path) -> Result<Self> {
        let file = std::fs::metadata(path).map_err(Error::io("read", path))?;
        let header = Gguf::open(path)?;
        let weights = header.tensors.iter();
        let weights = weights.map(|tensor| tensor.shape.iter().product::<u64>());
        let told = header.metadata.iter();
        let told = told.filter_map(|(key, value)| Some((key.clone(), scalar(value)?)));
        Ok(Self {
            family: header.architecture()?.to_owned(),
            n_weights: weights.sum(),
            weight_type: header.main_type().map_or("unknown", GgmlType::name),
            n_bytes: header.n_file_bytes()?,
            modified: file.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            sha256: home.base_ref(path)?.sha256,
            metadata: told.collect(),
        })
    }
}

/// The value in JSON; `None` for a list.
fn scalar(value: &gguf::Value) -> Option<Value> {
    match value {
        gguf::Value::Bool(value) => Some(json!(value)),
        value => value
            .as_str()
            .map(|text| json!(text))
            .or_else(|| value.as_u32().map(|number| json!(number)))
            .or_else(|| value.as_f32().map(|number| json!(number))),
    }
}
