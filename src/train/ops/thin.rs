//! Products with a thin matrix: a LoRA's, `[rank, width]` with a rank of some tens at most. A general matrix product
//! spends more time on arranging such operands than on multiplying them.

use rayon::prelude::*;

use super::dot;

/// Rows that one thread takes at a time.
const ROWS: usize = 16;
/// Columns that one thread takes at a time.
const COLUMNS: usize = 256;

/// `rows · thinᵀ`: `[t, width] · [rank, width]ᵀ → [t, rank]`.
pub fn project(rows: &[f32], thin: &[f32], width: usize) -> Vec<f32> {
    let (t, rank) = (rows.len() / width, thin.len() / width);
    let mut out = vec![0.0; t * rank];
    out.par_chunks_mut(ROWS * rank)
        .zip(rows.par_chunks(ROWS * width))
        .for_each(|(out, rows)| {
            for (out, row) in out.chunks_exact_mut(rank).zip(rows.chunks_exact(width)) {
                for (out, thin) in out.iter_mut().zip(thin.chunks_exact(width)) {
                    *out = dot(row, thin);
                }
            }
        });
    out
}

/// `out += scale · low · thin`: `[t, rank] · [rank, width] → [t, width]`.
pub fn expand(out: &mut [f32], scale: f32, low: &[f32], thin: &[f32], width: usize) {
    let rank = thin.len() / width;
    out.par_chunks_mut(ROWS * width)
        .zip(low.par_chunks(ROWS * rank))
        .for_each(|(out, low)| {
            for (out, low) in out.chunks_exact_mut(width).zip(low.chunks_exact(rank)) {
                for (low, thin) in low.iter().zip(thin.chunks_exact(width)) {
                    add_scaled(out, scale * low, thin);
                }
            }
        });
}

/// `scale · lowᵀ · rows`: `[t, rank]ᵀ · [t, width] → [rank, width]`.
pub fn reduce(scale: f32, low: &[f32], rows: &[f32], width: usize) -> Vec<f32> {
    let rank = low.len() * width / rows.len().max(1);
    let blocks: Vec<Vec<f32>> = (0..width.div_ceil(COLUMNS))
        .into_par_iter()
        .map(|block| {
            let columns = block * COLUMNS..width.min((block + 1) * COLUMNS);
            let mut sums = vec![0.0; rank * columns.len()];
            for (low, row) in low.chunks_exact(rank).zip(rows.chunks_exact(width)) {
                for (low, sums) in low.iter().zip(sums.chunks_exact_mut(columns.len())) {
                    add_scaled(sums, scale * low, &row[columns.clone()]);
                }
            }
            sums
        })
        .collect();
    let mut out = Vec::with_capacity(rank * width);
    for r in 0..rank {
        for block in &blocks {
            let n = block.len() / rank;
            out.extend(&block[r * n..(r + 1) * n]);
        }
    }
    out
}

/// The transpose of a matrix with `cols` columns.
pub fn transposed(matrix: &[f32], cols: usize) -> Vec<f32> {
    (0..cols)
        .flat_map(|col| matrix[col..].iter().step_by(cols).copied())
        .collect()
}

/// `out += scale · row`.
fn add_scaled(out: &mut [f32], scale: f32, row: &[f32]) {
    out.iter_mut()
        .zip(row)
        .for_each(|(out, x)| *out += scale * x);
}
