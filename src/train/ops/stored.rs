//! A weight in the bytes of its file, dequantised block by block where it is used.

use std::ops::Range;

use cope_convert::gguf::GgmlType;
use half::bf16;
use rayon::prelude::*;

use super::bf16::{SQUARE, WIDTH, transpose};
use super::panels::{PanelSource, interleave};
use crate::llama::{can_dequantize, dequantize};

/// A matrix `[n_out, n_in]`, row-major, in the type of its file.
pub struct Stored {
    ggml_type: GgmlType,
    bytes: Vec<u8>,
    n_out: usize,
    n_in: usize,
    added: Option<AddedLowRank>,
}

/// A low-rank matrix that is added to the file's values: `s B A` of a task adapter.
struct AddedLowRank {
    /// `A`, `[rank, n_in]`.
    a: Vec<f32>,
    /// `s B`, `[n_out, rank]`.
    b: Vec<f32>,
    rank: usize,
}

impl Stored {
    /// A matrix from the bytes of a tensor. `None` if its type cannot be dequantised.
    ///
    /// # Panics
    /// The number of bytes is not that of a matrix of this shape.
    pub fn new(ggml_type: GgmlType, bytes: Vec<u8>, n_out: usize, n_in: usize) -> Option<Self> {
        let stored = Self {
            ggml_type,
            bytes,
            n_out,
            n_in,
            added: None,
        };
        assert_eq!(
            stored.bytes.len(),
            n_out * stored.row_bytes(n_in),
            "the number of bytes does not fit the shape"
        );
        can_dequantize(ggml_type).then_some(stored)
    }

    /// A matrix of f32 `values`, `[n_out, n_in]` row-major.
    pub fn from_values(values: &[f32], n_out: usize, n_in: usize) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self {
            ggml_type: GgmlType::F32,
            bytes: bytes.collect(),
            n_out,
            n_in,
            added: None,
        }
    }

    /// The matrix plus `b · a`, where `b` is `[n_out, rank]` and `a` `[rank, n_in]`.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    pub fn adding(self, a: Vec<f32>, b: Vec<f32>) -> Self {
        let rank = a.len() / self.n_in;
        assert!(
            a.len() == rank * self.n_in && b.len() == self.n_out * rank,
            "the shapes of the sum do not fit"
        );
        let added = Some(AddedLowRank { a, b, rank });
        Self { added, ..self }
    }

    /// The matrix cut into parts with `rows` rows each.
    ///
    /// # Panics
    /// The parts have more rows than the matrix.
    pub fn split(self, rows: &[usize]) -> Vec<Self> {
        if rows == [self.n_out] {
            return vec![self];
        }
        let mut first = 0;
        let part = |&n_out: &usize| {
            let rows = first..first + n_out;
            first = rows.end;
            let row_bytes = self.row_bytes(self.n_in);
            let added = (self.added.as_ref()).map(|AddedLowRank { a, b, rank }| AddedLowRank {
                a: a.clone(),
                b: b[rows.start * rank..rows.end * rank].to_vec(),
                rank: *rank,
            });
            Self {
                ggml_type: self.ggml_type,
                bytes: self.bytes[rows.start * row_bytes..rows.end * row_bytes].to_vec(),
                n_out,
                n_in: self.n_in,
                added,
            }
        };
        rows.iter().map(part).collect()
    }

    /// Whether all values are finite.
    pub fn is_finite(&self) -> bool {
        (0..self.n_out)
            .into_par_iter()
            .all(|row| self.row(row).iter().all(|value| value.is_finite()))
    }

    /// Number of output features.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Number of input features.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Number of columns that are best read together: whole quantisation blocks, and whole panels.
    pub fn strip(&self) -> usize {
        self.block_size().next_multiple_of(2 * WIDTH)
    }

    /// Writes the values of `rows` and `columns`, `[rows, columns]` row-major, to `out`.
    pub fn read(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        let (start, end) = (self.row_bytes(columns.start), self.row_bytes(columns.end));
        for (row, out) in rows.zip(out.chunks_exact_mut(columns.len())) {
            let bytes = &self.bytes[row * self.row_bytes(self.n_in)..];
            dequantize(self.ggml_type, &bytes[start..end], out);
            if let Some(AddedLowRank { a, b, rank }) = &self.added {
                for (b, a) in b[row * rank..][..*rank]
                    .iter()
                    .zip(a.chunks_exact(self.n_in))
                {
                    let a = &a[columns.clone()];
                    out.iter_mut().zip(a).for_each(|(out, a)| *out += b * a);
                }
            }
        }
    }

    /// Row `index`, `[n_in]`.
    pub fn row(&self, index: usize) -> Vec<f32> {
        let mut row = vec![0.0; self.n_in];
        self.read(index..index + 1, 0..self.n_in, &mut row);
        row
    }

    /// Number of bytes of the first `values` values of a row.
    fn row_bytes(&self, values: usize) -> usize {
        values / self.block_size() * self.ggml_type.type_size() as usize
    }

    fn block_size(&self) -> usize {
        self.ggml_type.block_size() as usize
    }
}

/// `W` as panels.
pub struct StoredPanels<'a>(pub &'a Stored);

impl PanelSource for StoredPanels<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.0.n_out, self.0.n_in)
    }

    fn group(&self) -> usize {
        1
    }

    fn read(&self, group: usize, part: &mut dyn FnMut(usize, usize, &[bf16])) {
        let (n_out, n_in) = self.shape();
        let rows = group * WIDTH..n_out.min((group + 1) * WIDTH);
        let mut values = vec![0.0; rows.len() * n_in];
        self.0.read(rows, 0..n_in, &mut values);
        let mut panel = vec![[bf16::ZERO; SQUARE]; n_in.div_ceil(WIDTH)];
        let mut square = [bf16::ZERO; SQUARE];
        for (out, start) in panel.iter_mut().zip((0..n_in).step_by(WIDTH)) {
            let columns = start..n_in.min(start + WIDTH);
            if columns.len() < WIDTH {
                square.fill(bf16::ZERO);
            }
            interleave(&values, n_in, columns, square.as_chunks_mut().0);
            transpose(&square, out);
        }
        let len = n_in.next_multiple_of(2) * WIDTH;
        part(0, 0, &panel.as_flattened()[..len]);
    }
}

/// `Wᵀ` as panels.
pub struct Columns<'a>(pub &'a Stored);

impl Columns<'_> {
    /// Rows of `W` that are dequantised together.
    const ROWS: usize = 256;
}

impl PanelSource for Columns<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.0.n_in, self.0.n_out)
    }

    fn group(&self) -> usize {
        self.0.strip() / WIDTH
    }

    fn read(&self, group: usize, part: &mut dyn FnMut(usize, usize, &[bf16])) {
        let (n_in, n_out) = self.shape();
        let strip = self.0.strip();
        let columns = group * strip..n_in.min((group + 1) * strip);
        let width = columns.len();
        let mut values = vec![0.0; Self::ROWS * width];
        let mut panel = vec![[bf16::ZERO; 2]; Self::ROWS / 2 * WIDTH];
        for first in (0..n_out).step_by(Self::ROWS) {
            let rows = first..n_out.min(first + Self::ROWS);
            let values = &mut values[..rows.len() * width];
            let panel = &mut panel[..rows.len().div_ceil(2) * WIDTH];
            self.0.read(rows, columns.clone(), values);
            for (index, start) in (0..width).step_by(WIDTH).enumerate() {
                let columns = start..width.min(start + WIDTH);
                panel.fill([bf16::ZERO; 2]);
                interleave(values, width, columns, panel);
                part(index, first, panel.as_flattened());
            }
        }
    }
}
