//! ggml's own widening of its types to f32, for training on the very weights that inference uses.

use cope_convert::gguf::GgmlType;

use super::sys;

/// Whether ggml can widen this type.
#[must_use]
pub fn can_dequantize(ggml_type: GgmlType) -> bool {
    to_float(ggml_type).is_some() || ggml_type == GgmlType::F32
}

/// Widens `blocks` to f32: as many values as `out` has.
///
/// # Panics
///
/// If the type cannot be widened ([`can_dequantize`]), `out` is no whole number of blocks, or `blocks` is not as many
/// bytes as these have.
pub fn dequantize(ggml_type: GgmlType, blocks: &[u8], out: &mut [f32]) {
    let (elements, bytes) = (
        ggml_type.block_size() as usize,
        ggml_type.type_size() as usize,
    );
    assert!(
        out.len().is_multiple_of(elements) && blocks.len() == out.len() / elements * bytes,
        "blocks of another length"
    );
    if ggml_type == GgmlType::F32 {
        let values = blocks.as_chunks().0.iter();
        return out
            .iter_mut()
            .zip(values)
            .for_each(|(out, &bytes)| *out = f32::from_le_bytes(bytes));
    }
    let to_float = to_float(ggml_type);
    let to_float = to_float.unwrap_or_else(|| panic!("{ggml_type} cannot be widened"));
    // Block structures hold 16-bit numbers at most; a buffer's start is aligned to more, and a block's length is even
    // where it holds any.
    assert!(
        blocks.as_ptr().addr().is_multiple_of(2) || !bytes.is_multiple_of(2),
        "blocks at an odd address"
    );
    // SAFETY: the function reads so many blocks and writes so many values, by the lengths asserted above.
    unsafe { to_float(blocks.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64) };
}

type ToFloat = unsafe extern "C" fn(*const std::ffi::c_void, *mut f32, i64);

fn to_float(ggml_type: GgmlType) -> Option<ToFloat> {
    // SAFETY: every `GgmlType` is a type of ggml's, for which it has a constant entry.
    unsafe { (*sys::ggml_get_type_traits(ggml_type as sys::ggml_type)).to_float }
}
