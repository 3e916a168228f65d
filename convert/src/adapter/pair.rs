//! Pairs of matrices that lie in a file and are read when they are asked for.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::LoraTensor;
use super::check::check_values;
use crate::error::{Error, Result};
use crate::family::interleave;
use crate::file::read_at;
use crate::floats::decode;
use crate::safetensors::Dtype;

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
    /// In what type the weights of `A` and of `B` are held.
    fn dtypes(&self) -> [Dtype; 2];
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

    fn dtypes(&self) -> [Dtype; 2] {
        [Dtype::F32; 2]
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
    pub dtype: Dtype,
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

    fn dtypes(&self) -> [Dtype; 2] {
        [self.a.dtype, self.b.dtype]
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
            rows, cols, dtype, ..
        } = self;
        let n_bytes = rows as u64 * cols as u64 * dtype.n_bytes();
        let values = decode(dtype, &read_at(&self.path, self.offset, n_bytes)?);
        check_values(&self.tensor, &values, [rows, cols]).map_err(|flaw| Error::Adapter {
            path: self.path.to_path_buf(),
            flaw,
        })?;
        Ok(match self.heads {
            Some(heads) => interleave(&values, cols, heads),
            None => values,
        })
    }
}
