//! Floating-point numbers as files hold them, in little-endian order.

use half::slice::HalfFloatSliceExt;
use half::vec::HalfFloatVecExt;
use half::{bf16, f16};

pub(super) fn from_f16(bytes: &[u8]) -> Vec<f32> {
    numbers(bytes, f16::from_le_bytes).to_f32_vec()
}

pub(super) fn from_bf16(bytes: &[u8]) -> Vec<f32> {
    numbers(bytes, bf16::from_le_bytes).to_f32_vec()
}

pub(super) fn to_f16(values: &[f32]) -> Vec<u8> {
    bytes(&Vec::<f16>::from_f32_slice(values), f16::to_le_bytes)
}

/// Rounds to 16-bit brain floats; `None` if a value rounds to infinity.
pub(super) fn to_bf16(values: &[f32]) -> Option<Vec<u8>> {
    let rounded = Vec::<bf16>::from_f32_slice(values);
    let finite = rounded.iter().all(|it| it.is_finite());
    finite.then(|| bytes(&rounded, bf16::to_le_bytes))
}

pub(super) fn numbers<T, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&it| number(it)).collect()
}

pub(super) fn bytes<T: Copy, const N: usize>(numbers: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    let bytes: Vec<_> = numbers.iter().map(|&it| bytes(it)).collect();
    bytes.into_flattened()
}
