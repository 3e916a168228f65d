//! Weights in bf16, held in the panels of [`super::bf16`], and products with them.

#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::bf16::{ROWS, RoundedRows, SQUARE, WIDTH, accumulate, prefetch, round, transpose};
use super::matrix::Into;

/// Tasks for each thread that a product is split into at least, if it has enough rows. More tasks would read the weight
/// more often.
const TASKS: usize = 4;
/// The most f32 sums of a task: 512 KB, which stay in the second-level cache.
const SUMS: usize = 128 << 10;
/// The most bf16 values of the rows of a task: 512 KB, which stay in the second-level cache from one panel to the next.
const NEAR: usize = 256 << 10;

/// A weight `[n_out, n_in]` that can be read panel by panel.
pub trait PanelSource: Sync {
    /// `(n_out, n_in)`.
    fn shape(&self) -> (usize, usize);

    /// Number of panels that are read together.
    fn group(&self) -> usize;

    /// Calls `part(panel, input, data)` for the parts of a group of panels: `data` is `[inputs / 2][32][2]` of the
    /// panel of that number in the group, for its inputs from `input` on; `input` is even.
    fn read(&self, group: usize, part: &mut dyn FnMut(usize, usize, &[bf16]));
}

/// A weight `[n_out, n_in]` in panels.
pub struct Panels {
    /// `[n_out / 32][n_in / 2][32][2]`, both quotients rounded up, with zeros beyond the weight.
    data: Vec<bf16>,
    n_out: usize,
    n_in: usize,
}

impl Panels {
    /// Copies a weight that is stored in another way.
    pub fn from_source(source: &impl PanelSource) -> Self {
        let (n_out, n_in) = source.shape();
        let len = panel_len(n_in);
        let mut data = vec![bf16::ZERO; n_out.div_ceil(WIDTH) * len];
        data.par_chunks_mut(source.group() * len)
            .enumerate()
            .for_each(|(group, data)| {
                source.read(group, &mut |panel, input, part| {
                    data[panel * len + input * WIDTH..][..part.len()].copy_from_slice(part);
                });
            });
        Self { data, n_out, n_in }
    }

    /// Packs `weight`, `[n_out, n_in]` row-major, by way of a transposed copy: for small weights.
    pub fn from_rows(weight: &[f32], n_in: usize) -> Self {
        let n_out = weight.len() / n_in;
        Self::from_columns(&super::low_rank::transposed(weight, n_in), n_out)
    }

    /// Packs the transpose of `weight`, which is `[n_in, n_out]` row-major.
    pub fn from_columns(weight: &[f32], n_out: usize) -> Self {
        let n_in = weight.len() / n_out;
        let len = panel_len(n_in);
        let mut data = vec![bf16::ZERO; n_out.div_ceil(WIDTH) * len];
        data.par_chunks_mut(len)
            .enumerate()
            .for_each(|(panel, data)| {
                let columns = panel * WIDTH..n_out.min((panel + 1) * WIDTH);
                interleave(weight, n_out, columns, data.as_chunks_mut().0);
            });
        Self { data, n_out, n_in }
    }

    /// The weights of output `o`, `[n_in]`.
    pub fn row(&self, o: usize) -> Vec<f32> {
        let (pairs, _) = self.panel(o / WIDTH).as_chunks::<2>();
        let values = pairs.iter().skip(o % WIDTH).step_by(WIDTH).flatten();
        values.take(self.n_in).map(|value| value.to_f32()).collect()
    }

    fn panel(&self, panel: usize) -> &[bf16] {
        let len = panel_len(self.n_in);
        &self.data[panel * len..(panel + 1) * len]
    }
}

impl PanelSource for Panels {
    fn shape(&self) -> (usize, usize) {
        (self.n_out, self.n_in)
    }

    fn group(&self) -> usize {
        1
    }

    fn read(&self, group: usize, part: &mut dyn FnMut(usize, usize, &[bf16])) {
        part(0, 0, self.panel(group));
    }
}

/// The transpose of a weight in panels. It is transposed square by square while it is read, which costs little beside
/// the product, so one copy of the weight serves both the forward and the backward pass.
pub struct Transposed<'a>(pub &'a Panels);

impl Transposed<'_> {
    /// Panels of the weight that are transposed together: their squares fit into the first-level cache.
    const TOGETHER: usize = 8;

    /// The squares that make up panel `panel` of the transpose, from those panels of the weight that hold `outputs`.
    /// The squares at the edge of the weight are shorter.
    fn squares(&self, panel: usize, outputs: Range<usize>) -> impl Iterator<Item = &[bf16]> {
        let start = (panel * SQUARE).min(panel_len(self.0.n_in));
        outputs.step_by(WIDTH).map(move |output| {
            let rest = &self.0.panel(output / WIDTH)[start..];
            &rest[..rest.len().min(SQUARE)]
        })
    }
}

impl PanelSource for Transposed<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.0.n_in, self.0.n_out)
    }

    fn group(&self) -> usize {
        1
    }

    fn read(&self, group: usize, part: &mut dyn FnMut(usize, usize, &[bf16])) {
        let n_out = self.0.n_out;
        let together = |first: usize| first..n_out.min(first + Self::TOGETHER * WIDTH);
        let (mut padded, mut turned) =
            ([bf16::ZERO; SQUARE], [[bf16::ZERO; SQUARE]; Self::TOGETHER]);
        for first in (0..n_out).step_by(Self::TOGETHER * WIDTH) {
            let outputs = together(first);
            for (square, turned) in self.squares(group, outputs.clone()).zip(&mut turned) {
                let square = square.try_into().unwrap_or_else(|_| {
                    padded[..square.len()].copy_from_slice(square);
                    &padded
                });
                transpose(square, turned);
            }
            // The squares lie far apart, so the hardware does not prefetch the next ones by itself.
            let next = match outputs.end {
                end if end < n_out => self.squares(group, together(end)),
                _ => self.squares(group + 1, together(0)),
            };
            next.for_each(prefetch);
            let len = outputs.len().next_multiple_of(2) * WIDTH;
            part(0, first, &turned.as_flattened()[..len]);
        }
    }
}

/// Number of values of a panel with `n_in` inputs.
fn panel_len(n_in: usize) -> usize {
    n_in.next_multiple_of(2) * WIDTH
}

/// Sets `panel`, `[rows / 2][32]` pairs, to some `columns`, 32 at most, of `values`, `[rows, width]`, rounded to bf16.
/// The two values of a pair come from one column of neighbouring rows.
pub fn interleave(values: &[f32], width: usize, columns: Range<usize>, panel: &mut [[bf16; 2]]) {
    for (rows, panel) in values.chunks(2 * width).zip(panel.chunks_exact_mut(WIDTH)) {
        let (even, odd) = rows.split_at(width);
        for (pair, value) in panel.iter_mut().zip(&even[columns.clone()]) {
            pair[0] = round(*value);
        }
        // With an odd number of rows the last one has no neighbour.
        let odd = odd.get(columns.clone()).unwrap_or(&[]);
        for (pair, value) in panel.iter_mut().zip(odd) {
            pair[1] = round(*value);
        }
    }
}

/// `out = x Wᵀ`, or `out += …`, plus a second such term `also`, that of an adapter: `[t, n_in]` → `[t, n_out]`. The
/// result does not depend on the number of threads.
///
/// # Panics
/// The shapes do not fit.
pub fn product(
    (x, weight): (&RoundedRows, &dyn PanelSource),
    also: Option<(&RoundedRows, &Panels)>,
    into: Into,
    out: &mut [f32],
) {
    let (t, (n_out, n_in)) = (x.n_rows(), weight.shape());
    assert!(
        also.is_none_or(|(x, w)| x.n_rows() == t && w.n_out == n_out) && out.len() == t * n_out,
        "the shapes of the product do not fit"
    );
    let out = Shared(out.as_mut_ptr());
    let (n_panels, group) = (n_out.div_ceil(WIDTH), weight.group());
    let n_groups = n_panels.div_ceil(group);
    let wanted = (TASKS * rayon::current_num_threads()).div_ceil(n_groups.max(1));
    let n_rows = t
        .div_ceil(wanted)
        .min(SUMS / (group * WIDTH))
        .min(NEAR / n_in.max(1));
    // A multiple of the kernels' rows, so that the sums do not depend on the number of tasks.
    let n_rows = n_rows.max(1).next_multiple_of(ROWS);
    let blocks = t.div_ceil(n_rows);
    (0..n_groups * blocks).into_par_iter().for_each(|task| {
        let (first, block) = (task % n_groups * group, task / n_groups);
        let rows = block * n_rows..t.min((block + 1) * n_rows);
        let n_panels = group.min(n_panels - first);
        let mut tiles = vec![0.0; n_panels * rows.len() * WIDTH];
        let mut tiles: Vec<_> = tiles.chunks_exact_mut(rows.len() * WIDTH).collect();
        weight.read(task % n_groups, &mut |panel, input, part| {
            accumulate(part, x, rows.clone(), input, tiles[panel]);
        });
        for (panel, tile) in (first..).zip(&mut tiles) {
            if let Some((x, weight)) = also {
                accumulate(weight.panel(panel), x, rows.clone(), 0, tile);
            }
            let start = panel * WIDTH;
            let columns = WIDTH.min(n_out - start);
            for (row, tile) in rows.clone().zip(tile.chunks_exact(WIDTH)) {
                // SAFETY: tasks differ in their rows or in their columns, so no two write the same element, and every
                // element lies in `out`, whose length was asserted above.
                let out = unsafe { out.slice(row * n_out + start, columns) };
                into.store(out, tile[..columns].iter().copied());
            }
        }
    });
}

/// Memory that several tasks write to, each to a part of its own.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: it is an address without access; `slice` gives access, under conditions of its own.
unsafe impl Send for Shared {}
// SAFETY: the same holds.
unsafe impl Sync for Shared {}

impl Shared {
    /// The `len` values from `start` on.
    ///
    /// # Safety
    /// `start..start + len` lies in the memory, and no other code uses it while the slice lives.
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
    fn a_product_is_exact_for_the_rounded_operands() {
        for (t, n_in, n_out) in [(1, 1, 1), (5, 7, 33), (13, 64, 32), (150, 301, 70)] {
            let (x, w) = (values(t * n_in, 1), values(n_out * n_in, 2));
            let transposed = super::super::low_rank::transposed(&w, n_in);
            let rows = RoundedRows::new(&x, n_in);
            let weights = [
                Panels::from_rows(&w, n_in),
                Panels::from_columns(&transposed, n_out),
            ];
            let turned = Panels::from_rows(&transposed, n_out);
            let turned = Panels::from_source(&Transposed(&turned));
            for weight in weights.into_iter().chain([turned]) {
                let mut out = vec![1.0; t * n_out];
                product(
                    (&rows, &weight),
                    Some((&rows, &weight)),
                    Into::Add,
                    &mut out,
                );
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
    fn nan_and_infinity_pass_through_a_product() {
        let weight = Panels::from_rows(&[1.0, 1.0], 2);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut out = [0.0];
            let rows = RoundedRows::new(&[bad, 1.0], 2);
            product((&rows, &weight), None, Into::Set, &mut out);
            assert!(!out[0].is_finite() && out[0].is_nan() == bad.is_nan());
        }
    }
}
