//! Products with a thin matrix `[rank, width]`, as a LoRA adapter has, whose rank is some tens at most. A general
//! matrix product spends more time on packing such operands than on multiplying them.

use rayon::prelude::*;

use super::vector::dot;

/// Rows that one thread takes at a time.
const ROWS: usize = 16;
/// Columns that one thread takes at a time.
const COLUMNS: usize = 128;
/// Rows of the thin matrix that share each load of a wide row.
const TOGETHER: usize = 4;
/// Partial sums of a dot product, which the compiler keeps in one vector register.
const LANES: usize = 16;
/// Rows whose outer products are added up before their sums, [`TOGETHER`] times [`STRIP`] at a time, leave the
/// registers.
const DEEP: usize = 64;
/// Columns of the sums that are held in registers.
const STRIP: usize = 64;

/// `rows · thinᵀ`: `[t, width] · [rank, width]ᵀ → [t, rank]`.
pub fn project(rows: &[f32], thin: &[f32], width: usize) -> Vec<f32> {
    let (t, rank) = (rows.len() / width, thin.len() / width);
    let mut out = vec![0.0; t * rank];
    out.par_chunks_mut(ROWS * rank)
        .zip(rows.par_chunks(ROWS * width))
        .for_each(|(out, rows)| {
            for (out, row) in out.chunks_exact_mut(rank).zip(rows.chunks_exact(width)) {
                let (together, alone) = out.as_chunks_mut::<TOGETHER>();
                let (thin, rest) = thin.split_at(together.len() * TOGETHER * width);
                for (out, thin) in together.iter_mut().zip(thin.chunks_exact(TOGETHER * width)) {
                    *out = dots(row, thin);
                }
                for (out, thin) in alone.iter_mut().zip(rest.chunks_exact(width)) {
                    *out = dot(row, thin);
                }
            }
        });
    out
}

/// The dot products of `x`, `[width]`, with each of `rows`, `[TOGETHER, width]`.
fn dots(x: &[f32], rows: &[f32]) -> [f32; TOGETHER] {
    let width = x.len();
    let (chunks, rest) = x.as_chunks::<LANES>();
    let rows: [&[f32]; TOGETHER] = std::array::from_fn(|r| &rows[r * width..][..width]);
    let chunked = rows.map(|row| &row.as_chunks::<LANES>().0[..chunks.len()]);
    let mut sums = [[0.0; LANES]; TOGETHER];
    for (i, x) in chunks.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(&chunked) {
            for lane in 0..LANES {
                sums[lane] += x[lane] * row[i][lane];
            }
        }
    }
    std::array::from_fn(|r| {
        let tail = &rows[r][width - rest.len()..];
        sums[r].iter().sum::<f32>() + rest.iter().zip(tail).map(|(x, y)| x * y).sum::<f32>()
    })
}

/// `out += low · thin`: `[t, rank] · [rank, width] → [t, width]`.
pub fn expand(out: &mut [f32], low: &[f32], thin: &[f32], width: usize) {
    let rank = thin.len() / width;
    out.par_chunks_mut(ROWS * width)
        .zip(low.par_chunks(ROWS * rank))
        .for_each(|(out, low)| {
            for (out, low) in out.chunks_exact_mut(width).zip(low.chunks_exact(rank)) {
                let (together, alone) = low.as_chunks::<TOGETHER>();
                let (thin, rest) = thin.split_at(together.len() * TOGETHER * width);
                for (low, thin) in together.iter().zip(thin.chunks_exact(TOGETHER * width)) {
                    add_scaled(out, *low, thin);
                }
                for (low, thin) in alone.iter().zip(rest.chunks_exact(width)) {
                    add_scaled(out, [*low], thin);
                }
            }
        });
}

/// `out += Σᵣ scalesᵣ · rowsᵣ`; `out` is `[width]`, `rows` `[N, width]`.
fn add_scaled<const N: usize>(out: &mut [f32], scales: [f32; N], rows: &[f32]) {
    let rows: [&[f32]; N] = std::array::from_fn(|r| &rows[r * out.len()..][..out.len()]);
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = *out;
        for (scale, row) in scales.iter().zip(&rows) {
            sum += scale * row[i];
        }
        *out = sum;
    }
}

/// `lowᵀ · rows`: `[t, rank]ᵀ · [t, width] → [rank, width]`.
pub fn outer(low: &[f32], rows: &[f32], width: usize) -> Vec<f32> {
    let rank = low.len() * width / rows.len().max(1);
    let groups: Vec<Vec<f32>> = (0..width.div_ceil(COLUMNS))
        .into_par_iter()
        .map(|group| {
            let columns = group * COLUMNS..width.min((group + 1) * COLUMNS);
            let n = columns.len();
            let mut sums = vec![0.0; rank * n];
            // Blocks of rows that stay in the first-level cache while they are added to all sums of these columns.
            for (low, rows) in low.chunks(DEEP * rank).zip(rows.chunks(DEEP * width)) {
                let row = |row: usize| &rows[row * width..][columns.clone()];
                for first in (0..rank).step_by(TOGETHER) {
                    for start in (0..n).step_by(STRIP) {
                        if first + TOGETHER <= rank && start + STRIP <= n {
                            add_outer(&mut sums[first * n..], n, start, &low[first..], rank, row);
                            continue;
                        }
                        let end = n.min(start + STRIP);
                        for (number, low) in low.chunks_exact(rank).enumerate() {
                            let row = &row(number)[start..end];
                            for r in first..rank.min(first + TOGETHER) {
                                add_scaled(&mut sums[r * n..][start..end], [low[r]], row);
                            }
                        }
                    }
                }
            }
            sums
        })
        .collect();
    let mut out = Vec::with_capacity(rank * width);
    for r in 0..rank {
        for group in &groups {
            let n = group.len() / rank;
            out.extend(&group[r * n..][..n]);
        }
    }
    out
}

/// `sums[r][start + c] += Σₜ low[t][r] · row(t)[start + c]` for [`TOGETHER`] values of `r` and [`STRIP`] of `c`; `sums`
/// is `[_, n]` and `low` `[t, rank]`.
fn add_outer<'a>(
    sums: &mut [f32],
    n: usize,
    start: usize,
    low: &[f32],
    rank: usize,
    row: impl Fn(usize) -> &'a [f32],
) {
    let mut tile: [[f32; STRIP]; TOGETHER] = std::array::from_fn(|r| {
        let sums = &sums[r * n + start..][..STRIP];
        std::array::from_fn(|c| sums[c])
    });
    for (number, low) in low.chunks(rank).enumerate() {
        let (Some(row), Some(low)) = (
            row(number)[start..].first_chunk::<STRIP>(),
            low.first_chunk::<TOGETHER>(),
        ) else {
            break;
        };
        for (tile, low) in tile.iter_mut().zip(low) {
            for (sum, value) in tile.iter_mut().zip(row) {
                *sum += low * value;
            }
        }
    }
    for (r, tile) in tile.iter().enumerate() {
        sums[r * n + start..][..STRIP].copy_from_slice(tile);
    }
}

/// The transpose of a row-major matrix with `cols` columns.
pub fn transposed(matrix: &[f32], cols: usize) -> Vec<f32> {
    (0..cols)
        .flat_map(|col| matrix[col..].iter().step_by(cols).copied())
        .collect()
}
