//! Pairs of matrices, in memory or in a file, from which they are read on demand.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::LoraTensor;
use super::values::check_finite;
use crate::error::{AdapterFlaw, Error, Result};
use crate::family::interleave;
use crate::file::read_at;
use crate::gguf::GgmlType;
use crate::quant::dequantize;
use crate::value_heads::{Along, ValueHeads};

/// The number of values that are read at a time; at least a whole row is.
const PIECE: usize = 1 << 16;

/// One of the two matrices of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// `A`, `(r, in)`.
    A,
    /// `B`, `(out, r)`.
    B,
}

/// A pair of matrices `A` `(r, in)` and `B` `(out, r)`, in memory, in a file, or computed on demand.
pub trait LoraPair {
    /// The base tensor, such as `blk.0.attn_q.weight`.
    fn name(&self) -> &str;
    /// The number of rows of `A` and of columns of `B`.
    fn rank(&self) -> usize;
    /// The number of columns of `A`.
    fn n_in(&self) -> usize;
    /// The number of rows of `B`.
    fn n_out(&self) -> usize;
    /// The types in which a file holds `A` and `B`, unless another type is asked for.
    fn types(&self) -> [GgmlType; 2];
    /// `A`, row-major, `[r × in]`.
    ///
    /// # Errors
    ///
    /// The matrix cannot be read, or a weight is not finite.
    fn a(&self) -> Result<Cow<'_, [f32]>>;
    /// `B`, row-major, `[out × r]`.
    ///
    /// # Errors
    ///
    /// The errors of [`a`](Self::a).
    fn b(&self) -> Result<Cow<'_, [f32]>>;
    /// Passes a matrix to `each` in pieces of whole rows, so that it need not be in memory as a whole.
    ///
    /// # Errors
    ///
    /// The errors of [`a`](Self::a), and those of `each`.
    fn pieces(&self, half: Half, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        match half {
            Half::A => each(&self.a()?),
            Half::B => each(&self.b()?),
        }
    }
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

/// A pair whose matrices are in a file. Where the base holds several layers as one tensor and the file has a pair for each
/// of them, it is the one pair that changes the tensor as they do: their `A` one below the other, and their `B` in the rows
/// of their layers, each in columns of its own.
#[derive(Debug, Clone)]
pub struct StoredPair {
    pub(crate) name: String,
    /// The pairs of the layers, in the order of their rows.
    pub(crate) parts: Vec<StoredPart>,
    /// The number of rows of `B`. Those that belong to no part are 0.
    pub(crate) n_out: usize,
}

/// The pair of one layer of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct StoredPart {
    pub a: StoredMatrix,
    pub b: StoredMatrix,
    /// The layer's first row in the tensor.
    pub first_row: usize,
}

/// A matrix in a file, row-major.
#[derive(Debug, Clone)]
pub(crate) struct StoredMatrix {
    pub path: Arc<Path>,
    /// The name of its tensor in the file.
    pub tensor: String,
    pub rows: usize,
    pub cols: usize,
    pub ggml_type: GgmlType,
    /// The type that the matrix has in a GGUF file, unless another is asked for. It differs from `ggml_type` where the
    /// file is PEFT's and cannot hold the type.
    pub written_as: GgmlType,
    /// The start of its data, in bytes from the start of the file.
    pub offset: u64,
    /// The number of heads, if the rows are in transformers' order and have to be brought into llama.cpp's, head by
    /// head.
    pub heads: Option<usize>,
    /// The value heads, if they are in transformers' order and have to be brought into llama.cpp's.
    pub value_heads: Option<ValueHeads>,
    /// Whether the file has the matrix transposed, `(cols, rows)`.
    pub is_transposed: bool,
    /// A factor of every value.
    pub factor: f32,
}

impl LoraPair for StoredPair {
    fn name(&self) -> &str {
        &self.name
    }

    fn rank(&self) -> usize {
        self.parts.iter().map(|part| part.a.rows).sum()
    }

    fn n_in(&self) -> usize {
        self.parts.first().map_or(0, |part| part.a.cols)
    }

    fn n_out(&self) -> usize {
        self.n_out
    }

    fn types(&self) -> [GgmlType; 2] {
        match &*self.parts {
            [StoredPart { a, b, .. }] if !self.is_fused() => [a.written_as, b.written_as],
            _ => [GgmlType::F32; 2],
        }
    }

    fn a(&self) -> Result<Cow<'_, [f32]>> {
        self.load(Half::A)
    }

    fn b(&self) -> Result<Cow<'_, [f32]>> {
        self.load(Half::B)
    }

    fn pieces(&self, half: Half, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        match (half, &*self.parts) {
            (Half::A, parts) => parts.iter().try_for_each(|part| part.a.pieces(each)),
            (Half::B, [part]) if !self.is_fused() => part.b.pieces(each),
            (Half::B, _) => self.pieces_of_b(each),
        }
    }
}

impl StoredPair {
    /// The pair of a tensor that holds one layer.
    pub(crate) fn new(name: String, a: StoredMatrix, b: StoredMatrix) -> Self {
        let n_out = b.rows;
        let part = StoredPart { a, b, first_row: 0 };
        Self {
            name,
            parts: vec![part],
            n_out,
        }
    }

    /// Whether it is made of the pairs of layers that the base holds as one tensor.
    pub(crate) fn is_fused(&self) -> bool {
        self.parts.iter().any(|part| part.b.rows < self.n_out)
    }

    fn load(&self, half: Half) -> Result<Cow<'_, [f32]>> {
        let mut values = Vec::new();
        self.pieces(half, &mut |piece| {
            values.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Cow::Owned(values))
    }

    /// Passes `B` to `each`, with zeros in the rows and columns of other parts.
    fn pieces_of_b(&self, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let rank = self.rank();
        let (mut row, mut column) = (0, 0);
        for StoredPart { b, first_row, .. } in &self.parts {
            each(&vec![0.0; (first_row - row) * rank])?;
            b.pieces(&mut |piece| {
                let mut wide = vec![0.0; piece.len() / b.cols * rank];
                for (wide, values) in wide.chunks_exact_mut(rank).zip(piece.chunks_exact(b.cols)) {
                    wide[column..][..b.cols].copy_from_slice(values);
                }
                each(&wide)
            })?;
            (row, column) = (first_row + b.rows, column + b.cols);
        }
        each(&vec![0.0; (self.n_out - row) * rank])
    }
}

impl StoredMatrix {
    fn pieces(&self, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let &Self {
            rows,
            cols,
            heads,
            value_heads,
            is_transposed,
            ..
        } = self;
        // Rows change places only within a head, so a piece has whole heads.
        let together = heads.map_or(1, |heads| rows / heads);
        // The columns of a transposed matrix are spread over the whole file.
        let moves_all = value_heads.is_some_and(|it| it.along == Along::Rows);
        let together = if is_transposed || moves_all {
            rows
        } else {
            together
        };
        let n_rows = (PIECE / cols).next_multiple_of(together).max(together);
        for first in (0..rows).step_by(n_rows) {
            let n_rows = n_rows.min(rows - first);
            let mut values = self.values(first, n_rows)?;
            if is_transposed {
                values = transpose(&values, rows);
            }
            if let Some(heads) = value_heads {
                values = heads.tile(&values, cols);
            }
            match heads {
                Some(heads) => each(&interleave(&values, cols, n_rows / (rows / heads)))?,
                None => each(&values)?,
            }
        }
        Ok(())
    }

    /// The values of `n_rows` rows from row `first` on, in the file's order, times the factor.
    fn values(&self, first: usize, n_rows: usize) -> Result<Vec<f32>> {
        let refuse = |flaw| Error::Adapter {
            path: self.path.to_path_buf(),
            flaw,
        };
        let ggml_type = self.ggml_type;
        let row_bytes = self.cols as u64 / ggml_type.block_size() * ggml_type.type_size();
        let offset = self.offset + first as u64 * row_bytes;
        let bytes = read_at(&self.path, offset, n_rows as u64 * row_bytes)?;
        let mut values = dequantize(ggml_type, &bytes).ok_or_else(|| {
            refuse(AdapterFlaw::TensorType {
                tensor: self.tensor.clone(),
                ggml_type,
            })
        })?;
        check_finite(&self.tensor, &values).map_err(refuse)?;
        values.iter_mut().for_each(|value| *value *= self.factor);
        check_finite(&self.tensor, &values).map_err(refuse)?;
        Ok(values)
    }
}

/// The transposed of a matrix of so many columns, row-major.
fn transpose(values: &[f32], cols: usize) -> Vec<f32> {
    let column = |col| values.iter().skip(col).step_by(cols).copied();
    (0..cols).flat_map(column).collect()
}
