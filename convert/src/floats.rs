//! Floating-point numbers as they stand in files, little-endian, and as `f32`.

use half::slice::HalfFloatSliceExt;
use half::vec::HalfFloatVecExt;
use half::{bf16, f16};

use crate::safetensors::Dtype;

/// The values of `bytes`.
pub(crate) fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes),
        Dtype::F16 => numbers(bytes, f16::from_le_bytes).to_f32_vec(),
        Dtype::BF16 => numbers(bytes, bf16::from_le_bytes).to_f32_vec(),
    }
}

/// The bytes of `values`, rounded to the nearest.
pub(crate) fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => bytes(values, f32::to_le_bytes),
        Dtype::F16 => bytes(&Vec::<f16>::from_f32_slice(values), f16::to_le_bytes),
        Dtype::BF16 => bytes(&Vec::<bf16>::from_f32_slice(values), bf16::to_le_bytes),
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&it| number(it)).collect()
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    numbers
        .iter()
        .map(|&it| bytes(it))
        .collect::<Vec<_>>()
        .into_flattened()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let values = [0.0, -1.5, 3.25, 1024.0, f32::INFINITY];
            let bytes = encode(dtype, &values);
            assert_eq!(bytes.len() as u64, dtype.n_bytes() * 5);
            assert_eq!(decode(dtype, &bytes), values);
        }
        assert_eq!(encode(Dtype::F16, &[1.0]), [0x00, 0x3c]);
        assert_eq!(
            encode(Dtype::BF16, &[1.0, 1.003_906_3]),
            [0x80, 0x3f, 0x80, 0x3f]
        );
    }
}
