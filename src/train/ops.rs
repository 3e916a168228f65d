//! What the model is made of, each with its gradient, on f32 slices on the CPU, over *packed* rows: the tokens of a batch
//! lie one after the other, `[t, features]`, with no padding between sequences.
//!
//! candle's own operations cut gradients in their fused forms and are wasteful in the others: they compute gradients of
//! frozen weights, add every gradient to zeros, and wait for each other in between. So the blocks ([`super::block`]) are
//! one operation for candle ([`super::stack`]), made of these, and the log-probabilities at the end another
//! ([`super::head`]).

pub mod attention;
pub mod bf16;
#[cfg(test)]
pub(super) mod check;
pub mod dropout;
pub mod gate;
pub mod linear;
pub mod low_rank;
pub mod matrix;
pub mod norm;
mod panels;
pub mod rope;
pub mod stored;
pub mod vector;

/// Rows of a batch that one thread takes at a time, where there is little to do on each.
const ROWS: usize = 8;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The values of a contiguous f32 tensor, as an op's forward pass receives it.
///
/// # Errors
/// It is not contiguous, or of another type.
pub fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("an operand that is not contiguous"),
    }
}

/// Reads the values of a tensor in place, in row-major order.
///
/// # Errors
/// It is not on the CPU, or of another type.
pub fn map_f32<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(contiguous(storage, layout)?)),
        _ => bail!("a tensor that is not on the CPU"),
    }
}
