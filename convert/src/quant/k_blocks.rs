//! The types with 256 weights per block, in which each group of 16 or 32 weights has a scale of its own.

use super::blocks::IQ4;
use super::half;

/// Weights per block.
const N: usize = 256;

/// Widens a block `scales and minima, 4 bits each | q | d | dmin`.
pub(super) fn q2(block: &[u8; 84], out: &mut [f32; N]) {
    let (scales, q) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half(&block[80..]), half(&block[82..]));
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, min) = (
            d * f32::from(scales[group] & 15),
            dmin * f32::from(scales[group] >> 4),
        );
        let (first, shift) = two_bits(group);
        for (out, byte) in out.iter_mut().zip(&q[first..]) {
            *out = scale * f32::from(byte >> shift & 3) - min;
        }
    }
}

/// Widens a block `third bits | q | scales, 6 bits each | d`.
pub(super) fn q3(block: &[u8; 110], out: &mut [f32; N]) {
    let (high, q, scales, d) = (
        &block[..32],
        &block[32..96],
        &block[96..108],
        half(&block[108..]),
    );
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let scale = low | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
        let scale = d * (f32::from(scale) - 32.0);
        let (first, shift) = two_bits(group);
        let high = &high[group % 2 * 16..];
        for ((out, byte), high) in out.iter_mut().zip(&q[first..]).zip(high) {
            let third = (high >> (group / 2) & 1) << 2;
            *out = scale * (f32::from(byte >> shift & 3 | third) - 4.0);
        }
    }
}

/// Widens a block `d | dmin | scales and minima | q`.
pub(super) fn q4(block: &[u8; 144], out: &mut [f32; N]) {
    let (scales, q) = (&block[4..16], &block[16..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(block, scales, group);
        let shift = group % 2 * 4;
        for (out, byte) in out.iter_mut().zip(&q[group / 2 * 32..]) {
            *out = scale * f32::from(byte >> shift & 15) - min;
        }
    }
}

/// Widens a block `d | dmin | scales and minima | fifth bits | q`.
pub(super) fn q5(block: &[u8; 176], out: &mut [f32; N]) {
    let (scales, high, q) = (&block[4..16], &block[16..48], &block[48..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(block, scales, group);
        let shift = group % 2 * 4;
        for ((out, byte), high) in out.iter_mut().zip(&q[group / 2 * 32..]).zip(high) {
            let fifth = (high >> group & 1) << 4;
            *out = scale * f32::from(byte >> shift & 15 | fifth) - min;
        }
    }
}

/// Widens a block `q, lower 4 bits | q, upper 2 bits | scales | d`.
pub(super) fn q6(block: &[u8; 210], out: &mut [f32; N]) {
    let (low, high, scales, d) = (
        &block[..128],
        &block[128..192],
        &block[192..208],
        half(&block[208..]),
    );
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // The half of the block that the group is in, and its quarter of that half.
        let (half, quarter) = (group / 4, group % 4);
        let low = &low[half * 64 + quarter % 2 * 32..];
        let high = &high[half * 32..];
        for (i, out) in out.iter_mut().enumerate() {
            let scale = d * f32::from(scales[group * 2 + i / 16] as i8);
            let upper = (high[i] >> (quarter * 2) & 3) << 4;
            *out = scale * (f32::from(low[i] >> (quarter / 2 * 4) & 15 | upper) - 32.0);
        }
    }
}

/// Widens a block `d | scales, upper 2 bits | scales, lower 4 bits | q`, where each `q` is an index into [`IQ4`].
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; N]) {
    let (d, high) = (half(block), u16::from_le_bytes([block[2], block[3]]));
    let (low, q) = (&block[4..8], &block[8..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = low[group / 2] >> (group % 2 * 4) & 15;
        let scale = scale | ((high >> (2 * group) & 3) << 4) as u8;
        let scale = d * (f32::from(scale) - 32.0);
        for (i, byte) in q[group * 16..][..16].iter().enumerate() {
            out[i] = scale * f32::from(IQ4[usize::from(byte & 15)]);
            out[i + 16] = scale * f32::from(IQ4[usize::from(byte >> 4)]);
        }
    }
}

/// The first byte of a group of 16 weights with two bits each, and the lowest of the two bits within a byte.
fn two_bits(group: usize) -> (usize, usize) {
    (group / 8 * 32 + group % 2 * 16, group % 8 / 2 * 2)
}

/// The scale and the minimum of a group of 32 weights, each from 6 bits. The first four groups have theirs in the lower
/// bits of the first 8 bytes. The other four have 4 bits of each in the last four bytes, and 2 in the upper bits of the
/// first 8.
fn scale_and_min(block: &[u8], packed: &[u8], group: usize) -> (f32, f32) {
    let (d, dmin) = (half(block), half(&block[2..]));
    let (scale, min) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        )
    };
    (d * f32::from(scale), dmin * f32::from(min))
}
