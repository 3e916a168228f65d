//! A table that stays in its file, since a step needs few of its rows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use cope_convert::gguf::TensorInfo;

use crate::llama::dequantize;
use crate::{Error, Result};

/// A matrix whose rows are read one by one.
pub(super) struct FileTable {
    tensor: TensorInfo,
    file: Mutex<File>,
    width: usize,
}

impl FileTable {
    /// The table of a tensor with rows of `width` values, of a type that can be dequantised.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(tensor: TensorInfo, width: usize) -> Result<Self> {
        let file = File::open(&tensor.path).map_err(Error::io("open", &tensor.path))?;
        Ok(Self {
            tensor,
            file: Mutex::new(file),
            width,
        })
    }

    /// Number of values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A row, `[width]`.
    ///
    /// # Errors
    /// The file cannot be read, or a value is not finite.
    pub fn row(&self, row: usize) -> Result<Vec<f32>> {
        let path = &self.tensor.path;
        let bytes = self.bytes(row).map_err(Error::io("read", path))?;
        let mut values = vec![0.0; self.width];
        dequantize(self.tensor.ggml_type, &bytes, &mut values);
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        Err(Error::input(format_args!(
            "{}: the tensor {} holds values that are not finite",
            path.display(),
            self.tensor.name
        )))
    }

    fn bytes(&self, row: usize) -> std::io::Result<Vec<u8>> {
        let ggml_type = self.tensor.ggml_type;
        let n_bytes = self.width as u64 / ggml_type.block_size() * ggml_type.type_size();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.tensor.offset + row as u64 * n_bytes))?;
        let mut bytes = vec![0; n_bytes as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
