//! Products in bf16 by the dot products of AVX512-BF16, and the transposition of squares by AVX-512.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512bh, __m512i, _mm_setr_epi8, _mm512_broadcast_i32x4, _mm512_dpbf16_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_shuffle_i64x2, _mm512_storeu_ps, _mm512_storeu_si512,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use half::bf16;

use super::{SQUARE, WIDTH};

/// Rows that share each load of the weights: their sums fill 24 of the 32 vector registers.
const TALL: usize = 12;
/// Pairs of inputs that are multiplied before the next rows: 16 KB of a panel, which stay in the first-level cache.
const DEEP: usize = 128;

/// Whether this CPU has the instructions of this module.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Transposes a square in units of 8 bytes, which hold two inputs of two outputs: transposes each unit, then exchanges
/// rows and columns of 8 by 8 units.
///
/// # Safety
/// [`available`].
#[target_feature(enable = "avx512f,avx512bw")]
pub fn transpose(square: &[bf16; SQUARE], out: &mut [bf16; SQUARE]) {
    /// Values of a vector, and vectors of a row.
    const VECTOR: usize = 32;
    const ROW: usize = 2;
    // (a b) (c d) → (a c) (b d), in 16-bit values.
    let turn = _mm512_broadcast_i32x4(_mm_setr_epi8(
        0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
    ));
    for (inputs, outputs) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut rows = [_mm512_setzero_si512(); 8];
        for (r, row) in rows.iter_mut().enumerate() {
            let vector = (inputs * 8 + r) * ROW + outputs;
            // SAFETY: there are 32 vectors in a square.
            let units = unsafe { _mm512_loadu_si512(square.as_ptr().add(vector * VECTOR).cast()) };
            *row = _mm512_shuffle_epi8(units, turn);
        }
        for (c, column) in transposed(&rows).into_iter().enumerate() {
            let vector = (outputs * 8 + c) * ROW + inputs;
            // SAFETY: as above.
            unsafe {
                _mm512_storeu_si512(out.as_mut_ptr().add(vector * VECTOR).cast(), column);
            }
        }
    }
}

/// Transposes a matrix of 8 by 8 units of 8 bytes.
#[target_feature(enable = "avx512f")]
fn transposed(rows: &[__m512i; 8]) -> [__m512i; 8] {
    // Pairs of rows, with the even columns in one and the odd ones in the other.
    let even = [0, 2, 4, 6].map(|r| _mm512_unpacklo_epi64(rows[r], rows[r + 1]));
    let odd = [0, 2, 4, 6].map(|r| _mm512_unpackhi_epi64(rows[r], rows[r + 1]));
    let columns = |pairs: [__m512i; 4]| {
        let low = [0, 2].map(|p| _mm512_shuffle_i64x2::<0x88>(pairs[p], pairs[p + 1]));
        let high = [0, 2].map(|p| _mm512_shuffle_i64x2::<0xdd>(pairs[p], pairs[p + 1]));
        [
            _mm512_shuffle_i64x2::<0x88>(low[0], low[1]),
            _mm512_shuffle_i64x2::<0x88>(high[0], high[1]),
            _mm512_shuffle_i64x2::<0xdd>(low[0], low[1]),
            _mm512_shuffle_i64x2::<0xdd>(high[0], high[1]),
        ]
    };
    let (even, odd) = (columns(even), columns(odd));
    [
        even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3],
    ]
}

/// `tile += x panelᵀ` for rows of `x` that lie `width` apart, over the pairs of inputs in `panel`.
///
/// # Safety
/// [`available`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn accumulate(panel: &[bf16], x: &[bf16], width: usize, tile: &mut [f32]) {
    for (first, panel) in (0..).step_by(2 * DEEP).zip(panel.chunks(DEEP * 2 * WIDTH)) {
        let mut x = &x[first..];
        for tile in tile.chunks_mut(TALL * WIDTH) {
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
            x = x.get(TALL * width..).unwrap_or(&[]);
        }
    }
}

/// `tile += x panelᵀ` for `N` rows of `x` that lie `width` apart, over the pairs of inputs in `panel`.
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
    // SAFETY: both types are 64 bytes in which every bit pattern is valid.
    unsafe { std::mem::transmute(bits) }
}
