//! Dequantisation by ggml's own functions, so that training uses exactly the weights that inference uses.

use cope_convert::gguf::GgmlType;

use super::sys;

/// Whether ggml can dequantise this type.
#[must_use]
pub fn can_dequantize(ggml_type: GgmlType) -> bool {
    to_float(ggml_type).is_some() || ggml_type == GgmlType::F32
}

/// Dequantises `blocks` to the f32 values of `out`.
///
/// # Panics
///
/// If the type cannot be dequantised ([`can_dequantize`]), `out` is not a whole number of blocks, or `blocks` has not the
/// number of bytes of these blocks.
pub fn dequantize(ggml_type: GgmlType, blocks: &[u8], out: &mut [f32]) {
    let (elements, bytes) = (
        ggml_type.block_size() as usize,
        ggml_type.type_size() as usize,
    );
    assert!(
        out.len().is_multiple_of(elements) && blocks.len() == out.len() / elements * bytes,
        "the blocks do not have the length of the output"
    );
    if ggml_type == GgmlType::F32 {
        let values = blocks.as_chunks().0.iter();
        return out
            .iter_mut()
            .zip(values)
            .for_each(|(out, &bytes)| *out = f32::from_le_bytes(bytes));
    }
    let to_float = to_float(ggml_type);
    let to_float = to_float.unwrap_or_else(|| panic!("{ggml_type} cannot be dequantised"));
    // Block structures hold fields of at most 16 bits. A buffer's start is aligned to more than that, and the length of a
    // block with 16-bit fields is even.
    assert!(
        blocks.as_ptr().addr().is_multiple_of(2) || !bytes.is_multiple_of(2),
        "blocks at an odd address"
    );
    // SAFETY: the function reads whole blocks and writes `out.len()` values, whose lengths are asserted above.
    unsafe { to_float(blocks.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64) };
}

type ToFloat = unsafe extern "C" fn(*const std::ffi::c_void, *mut f32, i64);

fn to_float(ggml_type: GgmlType) -> Option<ToFloat> {
    // SAFETY: every `GgmlType` is a type of ggml's, for which it has a constant entry.
    unsafe { (*sys::ggml_get_type_traits(ggml_type as sys::ggml_type)).to_float }
}
