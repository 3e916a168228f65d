//! The operations that the model is made of, each with its gradient, on f32 slices in main memory. They work on
//! *packed* rows: the tokens of a batch lie one after the other, `[t, features]`, without padding between sequences.
//!
//! On the CPU they replace candle's own operations, whose fused forms have no gradient and whose other forms waste
//! work: they compute gradients of frozen weights, add every gradient to zeros, and wait for each other in between.
//! candle sees two large operations instead, both made of these: all blocks ([`super::block_stack`]), and the
//! log-probabilities at the end ([`super::head`]).

pub mod attention;
pub mod bf16;
pub mod causal_conv;
pub mod delta_core;
pub mod delta_rule;
pub mod dropout;
#[cfg(test)]
pub(super) mod finite_differences;
pub mod gate;
pub mod lineage;
pub mod linear;
pub mod low_rank;
pub mod matrix;
pub mod norm;
mod panels;
pub mod rope;
pub mod soft_cap;
pub mod stored;
pub mod vector;

/// Rows that one thread takes at a time in operations with little work a row.
const ROWS: usize = 8;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The values of a contiguous f32 tensor, from the storage and layout that a custom operation is given.
///
/// # Errors
/// The tensor is not contiguous, or not of f32.
pub fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("the operand is not contiguous"),
    }
}

/// Calls `f` with the values of a tensor, in row-major order, without copying a contiguous tensor.
///
/// # Errors
/// The tensor is not on the CPU, or not of f32.
pub fn map_f32<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(contiguous(storage, layout)?)),
        _ => bail!("the tensor is not on the CPU"),
    }
}
