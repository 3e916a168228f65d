//! Pairs of matrices that lie in a file and are read when they are asked for.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::LoraTensor;
use super::check::check_values;
use crate::error::{AdapterFlaw, Error, Result};
use crate::family::interleave;
use crate::file::read_at;
use crate::gguf::GgmlType;
use crate::quant::dequantize;

/// A pair of matrices `A` `(r, in)` and `B` `(out, r)`, wherever it is.
pub trait LoraPair {
    /// The base tensor, such as `blk.0.attn_q.weight`.
    fn name(&self) -> &str;
    /// The number of rows of `A` and of columns of `B`.
    fn rank(&self) -> usize;
    /// The number of columns of `A`.
    fn n_in(&self) -> usize;
    /// The number of rows of `B`.
    fn n_out(&self) -> usize;
    /// In what type a file is to hold `A` and `B`, if no other is asked for.
    fn types(&self) -> [GgmlType; 2];
    /// `A`, row-major, `[r × in]`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or a weight is not finite.
    fn a(&self) -> Result<Cow<'_, [f32]>>;
    /// `B`, row-major, `[out × r]`.
    ///
    /// # Errors
    ///
    /// As [`a`](Self::a).
    fn b(&self) -> Result<Cow<'_, [f32]>>;
}

impl LoraPair for LoraTensor {
    fn name(&self) -> &str {
        &self.name
    }

    fn rank(&self) -> usize {
        self.rank()
    }

    fn n_in(&self) -> usize {
        self.a.cols
    }

    fn n_out(&self) -> usize {
        self.b.rows
    }

    fn types(&self) -> [GgmlType; 2] {
        [GgmlType::F32; 2]
    }

    fn a(&self) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Borrowed(&self.a.data))
    }

    fn b(&self) -> Result<Cow<'_, [f32]>> {
        Ok(Cow::Borrowed(&self.b.data))
    }
}

/// A pair in a file.
#[derive(Debug, Clone)]
pub struct StoredPair {
    pub(crate) name: String,
    pub(crate) a: StoredMatrix,
    pub(crate) b: StoredMatrix,
}

/// A matrix in a file, row-major.
#[derive(Debug, Clone)]
pub(crate) struct StoredMatrix {
    pub path: Arc<Path>,
    /// Its name in the file.
    pub tensor: String,
    pub rows: usize,
    pub cols: usize,
    pub ggml_type: GgmlType,
    /// The type of a GGUF file's tensor made of it, if no other is asked for: its own, but for what PEFT cannot hold.
    pub written_as: GgmlType,
    /// In bytes from the start of the file.
    pub offset: u64,
    /// Over how many heads the rows are in transformers' order and are wanted in llama.cpp's.
    pub heads: Option<usize>,
}

impl LoraPair for StoredPair {
    fn name(&self) -> &str {
        &self.name
    }

    fn rank(&self) -> usize {
        self.a.rows
    }

    fn n_in(&self) -> usize {
        self.a.cols
    }

    fn n_out(&self) -> usize {
        self.b.rows
    }

    fn types(&self) -> [GgmlType; 2] {
        [self.a.written_as, self.b.written_as]
    }

    fn a(&self) -> Result<Cow<'_, [f32]>> {
        self.a.load().map(Cow::Owned)
    }

    fn b(&self) -> Result<Cow<'_, [f32]>> {
        self.b.load().map(Cow::Owned)
    }
}

impl StoredMatrix {
    fn load(&self) -> Result<Vec<f32>> {
        let &Self {
            rows,
            cols,
            ggml_type,
            ..
        } = self;
        let refuse = |flaw| Error::Adapter {
            path: self.path.to_path_buf(),
            flaw,
        };
        let n_blocks = rows as u64 * cols as u64 / ggml_type.block_size();
        let bytes = read_at(&self.path, self.offset, n_blocks * ggml_type.type_size())?;
        let values = dequantize(ggml_type, &bytes).ok_or_else(|| {
            refuse(AdapterFlaw::TensorType {
                tensor: self.tensor.clone(),
                ggml_type,
            })
        })?;
        check_values(&self.tensor, &values, [rows, cols]).map_err(refuse)?;
        Ok(match self.heads {
            Some(heads) => interleave(&values, cols, heads),
            None => values,
        })
    }
}
