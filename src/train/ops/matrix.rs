//! Strided views of f32 matrices, and their product by the `gemm` crate, which candle's own matmul uses too.
//!
//! candle's matmul needs contiguous operands and computes the gradients of both. The operations here multiply parts of
//! larger matrices, and know which gradients they need.

#![allow(unsafe_code)]

use gemm::Parallelism;

/// A read-only view: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A writable view with contiguous rows: element `(i, j)` is `data[i * row_stride + j]`.
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

/// Whether a result replaces the destination's values or is added to them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// `out = …`
    Set,
    /// `out += …`
    Add,
}

impl Into {
    /// Stores `values` in `out` or adds them to it.
    pub fn store(self, out: &mut [f32], values: impl Iterator<Item = f32>) {
        match self {
            Self::Set => out.iter_mut().zip(values).for_each(|(out, y)| *out = y),
            Self::Add => out.iter_mut().zip(values).for_each(|(out, y)| *out += y),
        }
    }
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// The calling thread alone, for products inside of a parallel loop.
    One,
    /// All of rayon's threads.
    All,
}

/// Number of elements from the first to the last one of a view of this shape.
fn span(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 {
        0
    } else {
        (rows - 1) * row_stride + (cols - 1) * col_stride + 1
    }
}

impl<'a> Matrix<'a> {
    /// A view `[rows, cols]` whose rows are contiguous and begin `row_stride` elements apart, from the front of `data`.
    ///
    /// # Panics
    /// `data` is too short, or rows overlap.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            span(rows, cols, row_stride, 1) <= data.len(),
            "the view ends beyond its data"
        );
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// All of a row-major `[rows, cols]` matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Row `index` of a view that is not a transpose.
    pub fn row(&self, index: usize) -> &'a [f32] {
        debug_assert_eq!(self.col_stride, 1, "the rows are contiguous");
        &self.data[index * self.row_stride..][..self.cols]
    }

    /// The transpose: the same data with its strides exchanged.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// A view `[rows, cols]` whose rows are contiguous and begin `row_stride` elements apart, from the front of `data`.
    ///
    /// # Panics
    /// `data` is too short, or rows overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            span(rows, cols, row_stride, 1) <= data.len(),
            "the view ends beyond its data"
        );
        assert!(rows <= 1 || cols <= row_stride, "the rows overlap");
        Self {
            data,
            rows,
            cols,
            row_stride,
        }
    }

    /// All of a row-major `[rows, cols]` matrix.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }
}

/// `out = scale · left · right`, or `out += …`; `[m, k] · [k, n] → [m, n]`. The result does not depend on the number of
/// threads.
///
/// # Panics
/// The shapes do not fit.
pub fn matmul(
    out: &mut MatrixMut,
    into: Into,
    scale: f32,
    left: Matrix,
    right: Matrix,
    threads: Workers,
) {
    let (m, k, n) = (left.rows, left.cols, right.cols);
    assert!(
        right.rows == k && out.rows == m && out.cols == n,
        "the shapes of the product do not fit"
    );
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = match threads {
        Workers::One => Parallelism::None,
        Workers::All => Parallelism::Rayon(0),
    };
    // SAFETY: the constructors have checked that every element of the three views lies in its slice, the shapes were
    // asserted to fit each other, and `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            into == Into::Add,
            left.data.as_ptr(),
            left.col_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.col_stride as isize,
            right.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
