//! Widens numbers of ggml's types to `f32` and rounds them back, by the formulas of ggml's own reference code
//! (`ggml-quants.c`).
//!
//! A block of a quantised type holds one small integer `q` per weight, and the scale `d`, and for some types the
//! minimum `m`, from which the weights are computed: `d · q` or `d · q + m`. A block of the K types holds a scale and a
//! minimum for each group of 16 or 32 weights, which are small integers themselves.

mod blocks;
mod floats;
mod k_blocks;

use half::f16;

use crate::gguf::GgmlType;

/// The types that [`quantize`] writes; [`dequantize`] reads them too.
pub(crate) const WRITTEN: [GgmlType; 8] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::Q8_0,
    GgmlType::Q5_1,
    GgmlType::Q5_0,
    GgmlType::Q4_1,
    GgmlType::Q4_0,
];

/// Widens whole blocks of `ggml_type` to `f32`; `None` for types that only ggml's own code can read, such as those with
/// codebooks.
///
/// # Panics
///
/// If `bytes` is not a whole number of blocks.
#[must_use]
pub fn dequantize(ggml_type: GgmlType, bytes: &[u8]) -> Option<Vec<f32>> {
    use GgmlType as T;
    assert!(
        (bytes.len() as u64).is_multiple_of(ggml_type.type_size()),
        "whole blocks"
    );
    Some(match ggml_type {
        T::F32 => floats::numbers(bytes, f32::from_le_bytes),
        T::F16 => floats::from_f16(bytes),
        T::BF16 => floats::from_bf16(bytes),
        T::Q4_0 => widen(bytes, blocks::q4_0),
        T::Q4_1 => widen(bytes, blocks::q4_1),
        T::Q5_0 => widen(bytes, blocks::q5_0),
        T::Q5_1 => widen(bytes, blocks::q5_1),
        T::Q8_0 => widen(bytes, blocks::q8_0),
        T::IQ4_NL => widen(bytes, blocks::iq4_nl),
        T::IQ4_XS => widen(bytes, k_blocks::iq4_xs),
        T::Q2_K => widen(bytes, k_blocks::q2),
        T::Q3_K => widen(bytes, k_blocks::q3),
        T::Q4_K => widen(bytes, k_blocks::q4),
        T::Q5_K => widen(bytes, k_blocks::q5),
        T::Q6_K => widen(bytes, k_blocks::q6),
        _ => return None,
    })
}

/// Rounds `values` to blocks of `ggml_type`; `None` if this crate does not write the type, or a value is too large for
/// it.
///
/// # Panics
///
/// If `values` are not a whole number of blocks.
#[must_use]
pub fn quantize(ggml_type: GgmlType, values: &[f32]) -> Option<Vec<u8>> {
    use GgmlType as T;
    assert!(
        (values.len() as u64).is_multiple_of(ggml_type.block_size()),
        "whole blocks"
    );
    Some(match ggml_type {
        T::F32 => floats::bytes(values, f32::to_le_bytes),
        T::BF16 => floats::to_bf16(values)?,
        // The values of F16, and the scales of the other types, are 16-bit floats.
        _ if !values.iter().all(|&it| f16::from_f32(it).is_finite()) => return None,
        T::F16 => floats::to_f16(values),
        T::Q4_0 => narrow(values, blocks::to_q4_0),
        T::Q4_1 => narrow(values, blocks::to_q4_1),
        T::Q5_0 => narrow(values, blocks::to_q5_0),
        T::Q5_1 => narrow(values, blocks::to_q5_1),
        T::Q8_0 => narrow(values, blocks::to_q8_0),
        _ => return None,
    })
}

fn widen<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    block: fn(&[u8; BYTES], &mut [f32; VALUES]),
) -> Vec<f32> {
    let blocks = bytes.as_chunks().0;
    let mut values = vec![0.0; blocks.len() * VALUES];
    for (bytes, values) in blocks.iter().zip(values.as_chunks_mut().0) {
        block(bytes, values);
    }
    values
}

fn narrow<const BYTES: usize, const VALUES: usize>(
    values: &[f32],
    block: fn(&[f32; VALUES]) -> [u8; BYTES],
) -> Vec<u8> {
    let blocks = values.as_chunks().0.iter();
    blocks.map(block).collect::<Vec<_>>().into_flattened()
}

/// The value of the 16-bit float at the start of `bytes`.
fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}
