//! Weights in bf16 as panels, and products with them.

#![allow(unsafe_code)]

use half::bf16;
use rayon::prelude::*;

use super::bf16::{RoundedRows, WIDTH, accumulate, round};
use super::matrix::Into;

/// Rows that one task takes. Enough to find a panel in the cache again, few enough to share a narrow weight among all
/// threads.
const ROWS: usize = 144;

/// A weight `[n_out, n_in]`.
pub struct Panels {
    /// `[n_out / 32][n_in / 2][32][2]`, both rounded up, zero beyond the weight.
    data: Vec<bf16>,
    n_out: usize,
    n_in: usize,
}

impl Panels {
    /// Of `weight`, `[n_out, n_in]` row-major.
    pub fn of_rows(weight: &[f32], n_in: usize) -> Self {
        Self::filled(weight.len() / n_in, n_in, |first, panel| {
            for (o, row) in weight[first * n_in..]
                .chunks_exact(n_in)
                .take(WIDTH)
                .enumerate()
            {
                for (i, value) in row.iter().enumerate() {
                    panel[i / 2 * WIDTH + o][i % 2] = round(*value);
                }
            }
        })
    }

    /// Of the transpose of `weight`, `[n_in, n_out]` row-major.
    pub fn of_columns(weight: &[f32], n_out: usize) -> Self {
        Self::filled(n_out, weight.len() / n_out, |first, panel| {
            let columns = first..n_out.min(first + WIDTH);
            let pairs = weight.chunks(2 * n_out).zip(panel.chunks_exact_mut(WIDTH));
            for (rows, panel) in pairs {
                let (even, odd) = rows.split_at(n_out);
                for (values, value) in panel.iter_mut().zip(&even[columns.clone()]) {
                    values[0] = round(*value);
                }
                for (values, value) in panel
                    .iter_mut()
                    .zip(odd.get(columns.clone()).unwrap_or(&[]))
                {
                    values[1] = round(*value);
                }
            }
        })
    }

    /// `fill(o, panel)` sets the outputs from `o` on in `[n_in / 2][32]` pairs.
    fn filled(n_out: usize, n_in: usize, fill: impl Fn(usize, &mut [[bf16; 2]]) + Sync) -> Self {
        let len = n_in.next_multiple_of(2) * WIDTH;
        let mut data = vec![bf16::ZERO; n_out.div_ceil(WIDTH) * len];
        data.par_chunks_mut(len)
            .enumerate()
            .for_each(|(panel, data)| fill(panel * WIDTH, data.as_chunks_mut().0));
        Self { data, n_out, n_in }
    }

    /// The weights of output `o`, `[n_in]`.
    pub fn row(&self, o: usize) -> Vec<f32> {
        let (pairs, _) = self.panel(o / WIDTH).as_chunks::<2>();
        let values = pairs.iter().skip(o % WIDTH).step_by(WIDTH).flatten();
        values.take(self.n_in).map(|value| value.to_f32()).collect()
    }

    fn panel(&self, panel: usize) -> &[bf16] {
        let len = self.n_in.next_multiple_of(2) * WIDTH;
        &self.data[panel * len..(panel + 1) * len]
    }
}

/// `out = Σ x Wᵀ`, or `out += …`, over the terms: `[t, n_in]` each → `[t, n_out]`. The result does not depend on the
/// number of threads.
///
/// # Panics
/// The shapes do not meet.
pub fn product(terms: &[(&RoundedRows, &Panels)], into: Into, out: &mut [f32]) {
    let (t, n_out) = terms.first().map_or((0, 0), |(x, w)| (x.n_rows(), w.n_out));
    assert!(
        terms
            .iter()
            .all(|(x, w)| x.n_rows() == t && w.n_out == n_out)
            && out.len() == t * n_out,
        "shapes of a product do not meet"
    );
    let out = Shared(out.as_mut_ptr());
    let blocks = t.div_ceil(ROWS);
    (0..n_out.div_ceil(WIDTH) * blocks)
        .into_par_iter()
        .for_each(|task| {
            let (panel, block) = (task / blocks, task % blocks);
            let rows = block * ROWS..t.min((block + 1) * ROWS);
            let mut tile = vec![0.0; rows.len() * WIDTH];
            for (x, weight) in terms {
                accumulate(weight.panel(panel), x, rows.clone(), 0, &mut tile);
            }
            let first = panel * WIDTH;
            let columns = WIDTH.min(n_out - first);
            for (row, tile) in rows.zip(tile.chunks_exact(WIDTH)) {
                // SAFETY: tasks differ in their rows or in their columns, so no two write the same element, and each
                // lies in `out` by its length, asserted above.
                let out = unsafe { out.slice(row * n_out + first, columns) };
                into.store(out, tile[..columns].iter().copied());
            }
        });
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
            let transposed = super::super::thin::transposed(&w, n_in);
            let rows = RoundedRows::new(&x, n_in);
            for weight in [
                Panels::of_rows(&w, n_in),
                Panels::of_columns(&transposed, n_out),
            ] {
                let mut out = vec![1.0; t * n_out];
                product(&[(&rows, &weight), (&rows, &weight)], Into::Add, &mut out);
                for (index, &y) in out.iter().enumerate() {
                    let (row, o) = (index / n_out, index % n_out);
                    let terms = x[row * n_in..(row + 1) * n_in]
                        .iter()
                        .zip(&w[o * n_in..])
                        .map(|(x, w)| rounded(*x) * rounded(*w));
                    let expected = 1.0 + 2.0 * terms.sum::<f64>();
                    assert!((f64::from(y) - expected).abs() < 1e-5, "{y} {expected}");
                }
                let last = weight.row(n_out - 1);
                assert!(
                    last.iter()
                        .zip(&w[(n_out - 1) * n_in..])
                        .all(|(a, b)| f64::from(*a).to_bits() == rounded(*b).to_bits())
                );
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let weight = Panels::of_rows(&[1.0, 1.0], 2);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut out = [0.0];
            let rows = RoundedRows::new(&[bad, 1.0], 2);
            product(&[(&rows, &weight)], Into::Set, &mut out);
            assert!(!out[0].is_finite() && out[0].is_nan() == bad.is_nan());
        }
    }
}
