//! Files for the tests: small valid ones, and bytes put together by hand for files that the writer would refuse.

use std::fs;
use std::path::{Path, PathBuf};

use cope_convert::gguf::{self, GgmlType, TensorData, Value};
use cope_convert::{Adapter, LoraTensor, Matrix, RopeFactors};
use tempfile::TempDir;

/// A folder that is removed at the end of a test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file with these bytes.
    pub fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.join("file.gguf");
        fs::write(&path, bytes).expect("the temporary folder is writable");
        path
    }

    /// The names of the files in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("the temporary folder is readable");
        let mut names = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>();
        names.sort();
        names
    }
}

/// Writes a `llama` model with two tensors, the last of which needs padding.
pub fn write_model(path: &Path) {
    let metadata = [
        ("general.architecture".to_owned(), Value::from("llama")),
        ("llama.block_count".to_owned(), Value::from(1_u32)),
        ("llama.rope.freq_base".to_owned(), Value::from(10_000_f32)),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::from(vec!["a".to_owned(), "bc".to_owned()]),
        ),
    ];
    let weights = (0..12).map(|i| i as f32).collect::<Vec<_>>();
    let blocks = [7; 20];
    let tensors = [
        TensorData::f32("blk.0.attn_q.weight", &[4, 3], &weights),
        TensorData::bytes("output.weight", &[32, 1], GgmlType::Q4_1, &blocks),
    ];
    gguf::write(path, &metadata, &tensors).expect("a good model");
}

/// An adapter of rank 2 for the first tensor of [`write_model`].
pub fn adapter() -> Adapter {
    let values = |n: u16| (0..n).map(|i| f32::from(i) - 1.5).collect::<Vec<_>>();
    Adapter {
        architecture: "llama".to_owned(),
        lora_alpha: 4.0,
        base_sha256: Some("0123456789abcdef".repeat(4)),
        task_sha256: None,
        contrast: Some(0.5),
        plausibility: Some(0.1),
        rope_factors: Some(RopeFactors::Short),
        name: Some("alice".to_owned()),
        tensors: vec![LoraTensor {
            name: "blk.0.attn_q.weight".to_owned(),
            a: Matrix {
                rows: 2,
                cols: 4,
                data: values(8),
            },
            b: Matrix {
                rows: 3,
                cols: 2,
                data: values(6),
            },
        }],
    }
}

/// A GGUF file put together piece by piece, with any claims that a test needs.
pub struct Raw(pub Vec<u8>);

impl Raw {
    /// Begins a file with the magic, version 3 and the two counts.
    pub fn new(n_tensors: u64, n_entries: u64) -> Self {
        Self(b"GGUF\x03\0\0\0".to_vec())
            .u64(n_tensors)
            .u64(n_entries)
    }

    pub fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn string(self, text: impl AsRef<[u8]>) -> Self {
        self.u64(text.as_ref().len() as u64).bytes(text.as_ref())
    }

    /// Adds a tensor's entry.
    pub fn tensor(self, name: &str, shape: &[u64], type_id: u32, offset: u64) -> Self {
        let raw = self.string(name).u32(shape.len() as u32);
        shape
            .iter()
            .fold(raw, |raw, &dim| raw.u64(dim))
            .u32(type_id)
            .u64(offset)
    }

    /// Pads to the default alignment, as a file does before its data, and adds `n` bytes of data.
    pub fn data(mut self, n: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + n, 0);
        self
    }
}
