//! Matrix products of bf16 values with sums in f32.
//!
//! The left operand is [`RoundedRows`], `[t, k]` row-major. The right operand is a *panel*, which holds 32 of a
//! weight's outputs as `[k / 2][32][2]`: for each pair of inputs, the two weights of each output side by side.
//! `vdpbf16ps` of AVX512-BF16 reads its operand in this order, and so do the tiles of AMX.
//!
//! The fastest kernel that the CPU has is chosen at run time: AMX (`amx`), AVX512-BF16 (`avx512`), or else an f32
//! product with the widened panel. The kernels add the same terms in different orders.

#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::matrix::{Into, Matrix, MatrixMut, Workers, matmul};

/// Outputs of a panel: two vectors of 16 f32 sums.
pub const WIDTH: usize = 32;
/// Rows that the kernels multiply together. Calls that split a matrix by rows split it at multiples of this number.
pub const ROWS: usize = 48;

/// Whether this CPU has instructions for bf16 products, so that they are faster than products in f32.
pub fn is_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Rows in bf16, `[t, k]`, each followed by a zero if `k` is odd.
pub struct RoundedRows {
    data: Vec<bf16>,
    width: usize,
}

impl RoundedRows {
    /// Rounds `x`, `[t, k]`, to the nearest bf16 values.
    pub fn new(x: &[f32], k: usize) -> Self {
        let width = k.next_multiple_of(2);
        let mut data = vec![bf16::ZERO; x.len() / k * width];
        data.par_chunks_mut(width)
            .zip(x.par_chunks(k))
            .with_min_len(super::ROWS)
            .for_each(|(rounded, x)| {
                rounded.iter_mut().zip(x).for_each(|(r, x)| *r = round(*x));
            });
        Self { data, width }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.width
    }

    fn rows(&self, rows: Range<usize>) -> &[bf16] {
        &self.data[rows.start * self.width..rows.end * self.width]
    }
}

/// `tile += x panelᵀ`, `[rows, 32]`, over the inputs in the panel, which are those of `x` from `first` on; `first` is
/// even. The sums of a row do not depend on the other rows if `rows` begins at a multiple of [`ROWS`].
pub fn accumulate(
    panel: &[bf16],
    x: &RoundedRows,
    rows: Range<usize>,
    first: usize,
    tile: &mut [f32],
) {
    let x_rows = &x.rows(rows)[first..];
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if amx::available() {
        // SAFETY: the CPU has AMX, and the system lets this process use it.
        unsafe { amx::accumulate(panel, x_rows, x.width, tile) };
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if avx512::available() {
        // SAFETY: the CPU has the instructions.
        unsafe { avx512::accumulate(panel, x_rows, x.width, tile) };
        return;
    }
    let depth = panel.len() / WIDTH;
    let wide: Vec<f32> = x_rows.iter().map(|x| x.to_f32()).collect();
    // [k / 2][32][2] → [k][32]
    let mut weights = vec![0.0; panel.len()];
    for (pair, rows) in panel
        .chunks_exact(2 * WIDTH)
        .zip(weights.chunks_exact_mut(2 * WIDTH))
    {
        for o in 0..WIDTH {
            rows[o] = pair[2 * o].to_f32();
            rows[WIDTH + o] = pair[2 * o + 1].to_f32();
        }
    }
    // `matmul` adds in an order that depends on the number of rows, so it is given the same blocks of rows every time.
    for (wide, tile) in wide
        .chunks(ROWS * x.width)
        .zip(tile.chunks_mut(ROWS * WIDTH))
    {
        let n = tile.len() / WIDTH;
        matmul(
            &mut MatrixMut::new(tile, n, WIDTH),
            Into::Add,
            1.0,
            Matrix::strided(wide, n, depth, x.width),
            Matrix::new(&weights, depth, WIDTH),
            Workers::One,
        );
    }
}

/// Prefetches `values`, which will be read soon, into the second-level cache.
pub fn prefetch(values: &[bf16]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(32) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Number of values of a square: 32 inputs of a panel's 32 outputs.
pub const SQUARE: usize = WIDTH * WIDTH;

/// Transposes a square: from `[inputs / 2][outputs][2]`, its order in a panel of a weight, to `[outputs /
/// 2][inputs][2]`, its order in a panel of the transposed weight.
pub fn transpose(square: &[bf16; SQUARE], out: &mut [bf16; SQUARE]) {
    #[cfg(target_arch = "x86_64")]
    if avx512::available() {
        // SAFETY: the CPU has the instructions.
        unsafe { avx512::transpose(square, out) };
        return;
    }
    for (pair, outputs) in square.chunks_exact(2 * WIDTH).enumerate() {
        for (o, values) in outputs.as_chunks::<2>().0.iter().enumerate() {
            for (i, value) in values.iter().enumerate() {
                out[(o / 2 * WIDTH + 2 * pair + i) * 2 + o % 2] = *value;
            }
        }
    }
}

/// Rounds like `bf16::from_f32`, but without branches, so that the compiler vectorises loops over it.
#[inline]
pub fn round(x: f32) -> bf16 {
    let bits = x.to_bits();
    let nearest_even = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet_nan = bits >> 16 | 0x40;
    bf16::from_bits(if x.is_nan() { quiet_nan } else { nearest_even } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_a_square_exchanges_inputs_and_outputs() {
        let square = std::array::from_fn(|i| bf16::from_bits(i as u16));
        let mut out = [bf16::ZERO; SQUARE];
        transpose(&square, &mut out);
        for (i, value) in out.iter().enumerate() {
            let (outputs, rest) = (i / (2 * WIDTH), i % (2 * WIDTH));
            let (input, output) = (rest / 2, 2 * outputs + rest % 2);
            let from = (input / 2 * WIDTH + output) * 2 + input % 2;
            assert_eq!(usize::from(value.to_bits()), from);
        }
    }

    #[test]
    fn sums_match_f64_and_do_not_depend_on_other_rows() {
        let value = |i: usize| (i as f32 * 0.37).sin();
        for depth in [2, 8, 30, 32, 34, 64, 100, 300] {
            let x: Vec<f32> = (0..(ROWS + 2) * depth).map(value).collect();
            let x = RoundedRows::new(&x, depth);
            let panel: Vec<_> = (0..depth * WIDTH)
                .map(|i| round(value(7 * i + 3)))
                .collect();
            let sums = |n: usize| {
                let mut tile = vec![0.5; n * WIDTH];
                accumulate(&panel, &x, 0..n, 0, &mut tile);
                tile
            };
            let all = sums(ROWS);
            for (index, sum) in all.iter().enumerate() {
                let (row, output) = (index / WIDTH, index % WIDTH);
                let term = |input: usize| {
                    let weight = panel[(input / 2 * WIDTH + output) * 2 + input % 2];
                    x.rows(row..row + 1)[input].to_f64() * weight.to_f64()
                };
                let expected = 0.5 + (0..depth).map(term).sum::<f64>();
                assert!(
                    (f64::from(*sum) - expected).abs() < 1e-4,
                    "{sum} {expected}"
                );
            }
            if is_native() {
                for n in 1..ROWS {
                    assert_eq!(sums(n), all[..n * WIDTH], "{n} rows, {depth} inputs");
                }
                assert_eq!(sums(ROWS + 2)[..all.len()], all);
            }
        }
    }

    #[test]
    fn round_agrees_with_the_half_crate() {
        let special = [
            0.0,
            -0.0,
            f32::NAN,
            f32::INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE,
        ];
        let patterns = (0..=u32::MAX).step_by(9973).map(f32::from_bits);
        for x in special.into_iter().chain(patterns) {
            assert_eq!(round(x).to_bits(), bf16::from_f32(x).to_bits(), "{x}");
        }
    }
}
