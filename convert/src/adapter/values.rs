//! Checks and encoding of the weights of an adapter's matrices.

use crate::error::AdapterFlaw;
use crate::gguf::GgmlType;
use crate::quant::quantize;

/// Makes sure that a matrix of shape `[rows, cols]` has `rows × cols` values, all finite. `tensor` is its tensor's
/// name, suffix included.
pub(crate) fn check_values(
    tensor: &str,
    values: &[f32],
    [rows, cols]: [usize; 2],
) -> Result<(), AdapterFlaw> {
    if rows.checked_mul(cols) != Some(values.len()) {
        return Err(AdapterFlaw::DataLength {
            tensor: tensor.to_owned(),
            rows,
            cols,
            got: values.len(),
        });
    }
    check_finite(tensor, values)
}

/// Makes sure that all values of a matrix are finite.
pub(crate) fn check_finite(tensor: &str, values: &[f32]) -> Result<(), AdapterFlaw> {
    if values.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(AdapterFlaw::NotFinite(tensor.to_owned()))
    }
}

/// Encodes some rows of a matrix, of shape `[rows, cols]`, as `ggml_type`, once [`check_values`] has passed them.
pub(crate) fn encode(
    tensor: &str,
    values: &[f32],
    shape: [usize; 2],
    ggml_type: GgmlType,
) -> Result<Vec<u8>, AdapterFlaw> {
    check_values(tensor, values, shape)?;
    quantize(ggml_type, values).ok_or_else(|| AdapterFlaw::TooLarge {
        tensor: tensor.to_owned(),
        ggml_type,
    })
}
