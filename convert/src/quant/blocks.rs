//! The types with 32 weights per block. Where a byte holds two weights, they are 16 places apart, and the lower four
//! bits are the first.

use half::f16;

use super::half;

/// Weights per block.
const N: usize = 32;

/// The numbers that the 4 bits of a weight stand for in `IQ4_NL` and `IQ4_XS`.
pub(super) const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Widens a block `d | q`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; N]) {
    let d = half(block);
    for (i, &byte) in block[2..].iter().enumerate() {
        out[i] = (f32::from(byte & 15) - 8.0) * d;
        out[i + 16] = (f32::from(byte >> 4) - 8.0) * d;
    }
}

/// Widens a block `d | m | q`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; N]) {
    let (d, m) = (half(block), half(&block[2..]));
    for (i, &byte) in block[4..].iter().enumerate() {
        out[i] = f32::from(byte & 15) * d + m;
        out[i + 16] = f32::from(byte >> 4) * d + m;
    }
}

/// Widens a block `d | fifth bits | q`.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; N]) {
    let d = half(block);
    five_bits(&block[2..], out);
    out.iter_mut().for_each(|it| *it = (*it - 16.0) * d);
}

/// Widens a block `d | m | fifth bits | q`.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; N]) {
    let (d, m) = (half(block), half(&block[2..]));
    five_bits(&block[4..], out);
    out.iter_mut().for_each(|it| *it = *it * d + m);
}

/// Widens a block `d | q`.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; N]) {
    let d = half(block);
    for (out, &byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(byte as i8) * d;
    }
}

/// Widens a block `d | q`, where each `q` is an index into [`IQ4`].
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; N]) {
    let d = half(block);
    for (i, &byte) in block[2..].iter().enumerate() {
        out[i] = f32::from(IQ4[usize::from(byte & 15)]) * d;
        out[i + 16] = f32::from(IQ4[usize::from(byte >> 4)]) * d;
    }
}

/// Unpacks `fifth bits | q` into numbers from 0 to 31.
fn five_bits(bytes: &[u8], out: &mut [f32; N]) {
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, &byte) in bytes[4..].iter().enumerate() {
        let fifth = |i: usize| ((high >> i & 1) << 4) as u8;
        out[i] = f32::from(byte & 15 | fifth(i));
        out[i + 16] = f32::from(byte >> 4 | fifth(i + 16));
    }
}

pub(super) fn to_q4_0(values: &[f32; N]) -> [u8; 18] {
    let (d, inverse) = scale(furthest(values) / -8.0);
    let q = values.map(|it| ((it * inverse + 8.5) as u8).min(15));
    let mut block = [0; 18];
    block[..2].copy_from_slice(&d);
    pack(&q, &mut block[2..]);
    block
}

pub(super) fn to_q4_1(values: &[f32; N]) -> [u8; 20] {
    let (min, max) = range(values);
    let (d, inverse) = scale((max - min) / 15.0);
    let q = values.map(|it| (((it - min) * inverse + 0.5) as u8).min(15));
    let mut block = [0; 20];
    block[..2].copy_from_slice(&d);
    block[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    pack(&q, &mut block[4..]);
    block
}

pub(super) fn to_q5_0(values: &[f32; N]) -> [u8; 22] {
    let (d, inverse) = scale(furthest(values) / -16.0);
    let q = values.map(|it| ((it * inverse + 16.5) as u8).min(31));
    let mut block = [0; 22];
    block[..2].copy_from_slice(&d);
    block[2..6].copy_from_slice(&fifth_bits(&q));
    pack(&q, &mut block[6..]);
    block
}

pub(super) fn to_q5_1(values: &[f32; N]) -> [u8; 24] {
    let (min, max) = range(values);
    let (d, inverse) = scale((max - min) / 31.0);
    let q = values.map(|it| (((it - min) * inverse + 0.5) as u8).min(31));
    let mut block = [0; 24];
    block[..2].copy_from_slice(&d);
    block[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
    block[4..8].copy_from_slice(&fifth_bits(&q));
    pack(&q, &mut block[8..]);
    block
}

pub(super) fn to_q8_0(values: &[f32; N]) -> [u8; 34] {
    let (d, inverse) = scale(furthest(values).abs() / 127.0);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&d);
    for (byte, value) in block[2..].iter_mut().zip(values) {
        *byte = (value * inverse).round() as i8 as u8;
    }
    block
}

/// The scale as the block keeps it, rounded to 16 bits, and the inverse of the unrounded scale, which ggml too rounds
/// with.
fn scale(d: f32) -> ([u8; 2], f32) {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    (f16::from_f32(d).to_le_bytes(), inverse)
}

/// The value with the largest magnitude, with its sign; the first of several.
fn furthest(values: &[f32; N]) -> f32 {
    let further = |max: f32, &it: &f32| if it.abs() > max.abs() { it } else { max };
    values.iter().fold(0.0, further)
}

/// The smallest and the largest value.
fn range(values: &[f32; N]) -> (f32, f32) {
    let min = values.iter().copied().fold(f32::MAX, f32::min);
    let max = values.iter().copied().fold(f32::MIN, f32::max);
    (min, max)
}

/// Packs the lower four bits of two numbers, 16 places apart, into each byte.
fn pack(q: &[u8; N], bytes: &mut [u8]) {
    let (low, high) = q.split_at(16);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low & 15 | high << 4;
    }
}

/// Collects the fifth bit of each number.
fn fifth_bits(q: &[u8; N]) -> [u8; 4] {
    let bits = q.iter().enumerate().map(|(i, q)| u32::from(q >> 4) << i);
    bits.fold(0, |all, bit| all | bit).to_le_bytes()
}
