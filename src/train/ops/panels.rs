//! A frozen weight as bf16, in panels: the order in which the CPU's bf16 dot products read it.
//!
//! `y = x Wᵀ` with `x` and `W` rounded to bf16 and sums in f32, as bf16 training has them everywhere. A panel holds 32
//! outputs, `[in / 2][32][2]`: for each pair of inputs, the two weights of each output side by side. Where the CPU has
//! AVX512-BF16 an instruction multiplies and adds 32 such weights; elsewhere a panel is widened to f32 and multiplied as
//! f32, which gives the same sums in another order.

#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::matrix::{Into, Matrix, MatrixMut, matmul};

/// Outputs of a panel: two vectors of 16.
const WIDTH: usize = 32;
/// Rows of `x` that one task takes. Enough to find a panel in the cache again, few enough to share a narrow weight
/// among all threads.
const ROWS: usize = 144;

/// A weight `[n_out, n_in]`.
pub struct Panels {
    /// `[n_out / 32][n_in / 2][32][2]`, both rounded up, zero beyond the weight.
    data: Vec<bf16>,
    n_out: usize,
    n_in: usize,
}

impl Panels {
    /// Of the matrix with `n_out` rows and `n_in` columns whose element `(o, i)` is `element(o, i)`.
    pub fn new(n_out: usize, n_in: usize, element: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let panel_len = panel_len(n_in);
        let mut data = vec![bf16::ZERO; n_out.div_ceil(WIDTH) * panel_len];
        data.par_chunks_mut(panel_len)
            .enumerate()
            .for_each(|(panel, data)| {
                let first = panel * WIDTH;
                for o in first..n_out.min(first + WIDTH) {
                    for i in 0..n_in {
                        data[place(o - first, i)] = bf16::from_f32(element(o, i));
                    }
                }
            });
        Self { data, n_out, n_in }
    }

    /// The weights of output `o`, `[n_in]`.
    pub fn row(&self, o: usize) -> impl Iterator<Item = f32> {
        let panel = self.panel(o / WIDTH);
        (0..self.n_in).map(move |i| panel[place(o % WIDTH, i)].to_f32())
    }

    /// `out = x Wᵀ`, or `out += …`: `[t, n_in]` → `[t, n_out]`. The result does not depend on the number of threads.
    pub fn product(&self, x: &[f32], into: Into, out: &mut [f32]) {
        let t = x.len() / self.n_in.max(1);
        assert_eq!(x.len(), t * self.n_in, "rows of another width");
        assert_eq!(out.len(), t * self.n_out, "a result of another shape");
        let x = Rounded::new(x, self.n_in);
        let out = Shared(out.as_mut_ptr());
        let blocks = t.div_ceil(ROWS);
        (0..self.n_out.div_ceil(WIDTH) * blocks)
            .into_par_iter()
            .for_each(|task| {
                let (panel, block) = (task / blocks, task % blocks);
                let rows = block * ROWS..t.min((block + 1) * ROWS);
                let first = panel * WIDTH;
                let columns = WIDTH.min(self.n_out - first);
                let mut tile = vec![0.0; rows.len() * WIDTH];
                tile_product(self.panel(panel), &x, rows.clone(), &mut tile);
                for (row, tile) in rows.zip(tile.chunks_exact(WIDTH)) {
                    // SAFETY: tasks differ in their rows or in their columns, so no two write the same element, and
                    // each lies in `out` by its length, asserted above.
                    let out = unsafe { out.slice(row * self.n_out + first, columns) };
                    into.store(out, tile[..columns].iter().copied());
                }
            });
    }

    fn panel(&self, panel: usize) -> &[bf16] {
        let len = panel_len(self.n_in);
        &self.data[panel * len..(panel + 1) * len]
    }
}

/// Rows in bf16, each with an even number of values.
struct Rounded {
    data: Vec<bf16>,
    width: usize,
}

impl Rounded {
    fn new(x: &[f32], width: usize) -> Self {
        let padded = width.next_multiple_of(2);
        let mut data = vec![bf16::ZERO; x.len() / width.max(1) * padded];
        data.par_chunks_mut(padded)
            .zip(x.par_chunks(width))
            .with_min_len(16)
            .for_each(|(rounded, x)| {
                rounded
                    .iter_mut()
                    .zip(x)
                    .for_each(|(rounded, x)| *rounded = round(*x));
            });
        Self {
            data,
            width: padded,
        }
    }

    fn rows(&self, rows: Range<usize>) -> &[bf16] {
        &self.data[rows.start * self.width..rows.end * self.width]
    }
}

/// `tile = x panelᵀ` for some rows of `x`: `[rows, 32]`.
fn tile_product(panel: &[bf16], x: &Rounded, rows: Range<usize>, tile: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx512::available() {
        // SAFETY: the CPU has the instructions.
        unsafe { avx512::tile_product(panel, x.rows(rows), x.width, tile) };
        return;
    }
    let n = rows.len();
    let wide: Vec<f32> = x.rows(rows).iter().map(|x| x.to_f32()).collect();
    // [in / 2][32][2] → [in][32]
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
    matmul(
        &mut MatrixMut::new(tile, n, WIDTH),
        Into::Set,
        1.0,
        Matrix::new(&wide, n, x.width),
        Matrix::new(&weights, x.width, WIDTH),
        false,
    );
}

/// Whether this CPU multiplies bf16 by itself, so that bf16 is faster than f32.
pub fn is_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use half::bf16;

    use super::WIDTH;

    /// Rows of `x` that share a load of the weights: 24 of the 32 vector registers hold their sums.
    const TALL: usize = 12;
    /// Pairs of inputs in a go: 16 KB of a panel, which stay in the first cache while the rows pass.
    const DEEP: usize = 128;

    pub fn available() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }

    /// # Safety
    /// [`available`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn tile_product(panel: &[bf16], x: &[bf16], width: usize, tile: &mut [f32]) {
        for (first, panel) in (0..).step_by(2 * DEEP).zip(panel.chunks(DEEP * 2 * WIDTH)) {
            let tiles = tile.chunks_mut(TALL * WIDTH);
            for (x, tile) in x.chunks(TALL * width).zip(tiles) {
                let x = &x[first..];
                match tile.len() / WIDTH {
                    12 => rows::<12>(panel, x, width, tile),
                    11 => rows::<11>(panel, x, width, tile),
                    10 => rows::<10>(panel, x, width, tile),
                    9 => rows::<9>(panel, x, width, tile),
                    8 => rows::<8>(panel, x, width, tile),
                    7 => rows::<7>(panel, x, width, tile),
                    6 => rows::<6>(panel, x, width, tile),
                    5 => rows::<5>(panel, x, width, tile),
                    4 => rows::<4>(panel, x, width, tile),
                    3 => rows::<3>(panel, x, width, tile),
                    2 => rows::<2>(panel, x, width, tile),
                    _ => rows::<1>(panel, x, width, tile),
                }
            }
        }
    }

    /// `tile += x panelᵀ` for `N` rows of `x` that lie `width` apart, over the pairs of inputs that `panel` has.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rows<const N: usize>(panel: &[bf16], x: &[bf16], width: usize, tile: &mut [f32]) {
        let pairs = panel.len() / (2 * WIDTH);
        assert!(x.len() >= (N - 1) * width + 2 * pairs && tile.len() >= N * WIDTH);
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        // SAFETY: every address lies in its slice, by the lengths asserted above; unaligned loads and stores.
        unsafe {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (half, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(tile.as_ptr().add(row * WIDTH + half * 16));
                }
            }
            for pair in 0..pairs {
                let weights = panel.as_ptr().add(pair * 2 * WIDTH);
                let low = operand(_mm512_loadu_si512(weights.cast()));
                let high = operand(_mm512_loadu_si512(weights.add(WIDTH).cast()));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let two = x.as_ptr().add(row * width + 2 * pair);
                    let two = std::mem::transmute::<[bf16; 2], i32>(two.cast::<[bf16; 2]>().read());
                    let two = operand(_mm512_set1_epi32(two));
                    sums[0] = _mm512_dpbf16_ps(sums[0], two, low);
                    sums[1] = _mm512_dpbf16_ps(sums[1], two, high);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (half, sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(tile.as_mut_ptr().add(row * WIDTH + half * 16), *sum);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn operand(bits: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes in which every pattern is a value.
        unsafe { std::mem::transmute(bits) }
    }
}

/// Memory that several tasks write to, each its own part.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: a bare address; whoever makes a slice of it answers for that.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `start..start + len` lies in the memory, and nobody else uses it while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "the callers keep their parts apart")]
    unsafe fn slice(&self, start: usize, len: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Values of a panel.
fn panel_len(n_in: usize) -> usize {
    n_in.next_multiple_of(2) * WIDTH
}

/// Where a panel has input `i` of its output `o`.
fn place(o: usize, i: usize) -> usize {
    (i / 2 * WIDTH + o) * 2 + i % 2
}

/// `bf16::from_f32`, without its branches, so that the compiler makes vector instructions of it.
fn round(x: f32) -> bf16 {
    let bits = x.to_bits();
    let nearest_even = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet_nan = bits >> 16 | 0x40;
    bf16::from_bits(if x.is_nan() { quiet_nan } else { nearest_even } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        std::iter::repeat_with(next).take(n).collect()
    }

    fn rounded(x: f32) -> f64 {
        bf16::from_f32(x).to_f64()
    }

    #[test]
    fn the_product_is_that_of_the_rounded_operands() {
        for (t, n_in, n_out) in [(1, 1, 1), (5, 7, 33), (13, 64, 32), (150, 301, 70)] {
            let (x, w) = (values(t * n_in, 1), values(n_out * n_in, 2));
            let panels = Panels::new(n_out, n_in, |o, i| w[o * n_in + i]);
            let mut out = vec![1.0; t * n_out];
            panels.product(&x, Into::Add, &mut out);
            for (index, &y) in out.iter().enumerate() {
                let (row, o) = (index / n_out, index % n_out);
                let terms = x[row * n_in..(row + 1) * n_in]
                    .iter()
                    .zip(&w[o * n_in..])
                    .map(|(x, w)| rounded(*x) * rounded(*w));
                let expected = 1.0 + terms.sum::<f64>();
                assert!((f64::from(y) - expected).abs() < 1e-5, "{y} {expected}");
            }
            let row: Vec<f32> = panels.row(n_out - 1).collect();
            assert!(
                row.iter()
                    .zip(&w[(n_out - 1) * n_in..])
                    .all(|(a, b)| f64::from(*a).to_bits() == rounded(*b).to_bits())
            );
        }
    }

    #[test]
    fn rounding_is_that_of_half() {
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

    #[test]
    fn what_is_not_finite_stays_so() {
        let panels = Panels::new(1, 2, |_, _| 1.0);
        for (bad, expected) in [(f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY)] {
            let mut out = [0.0];
            panels.product(&[bad, 1.0], Into::Set, &mut out);
            assert_eq!(out[0].is_nan(), expected.is_nan());
            assert!(!out[0].is_finite());
        }
    }
}
