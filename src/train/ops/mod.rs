//! Operations with gradients where candle's own are missing or wasteful. All are f32, on the CPU, over *packed* rows:
//! the tokens of a batch lie one after the other, `[t, features]`, with no padding between sequences.

pub mod attention;
pub mod gate;
pub mod linear;
pub mod logps;
pub mod matrix;
pub mod norm;
mod panels;
pub mod rope;
mod thin;
pub mod weight;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The values of a contiguous f32 tensor, as an op's forward pass receives it.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("an operand that is not contiguous"),
    }
}

/// Reads the values of a tensor in place, in row-major order.
pub fn map_f32<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    map_f32s([tensor], |[values]| f(values))
}

/// [`map_f32`] of several tensors at once.
fn map_f32s<const N: usize, T>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> T,
) -> Result<T> {
    let mut held = Vec::with_capacity(N);
    for tensor in tensors {
        held.push(tensor.contiguous()?);
    }
    let guards: Vec<_> = held.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = [[].as_slice(); N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        *slice = match &**storage {
            Storage::Cpu(storage) => contiguous(storage, layout)?,
            _ => bail!("a tensor that is not on the CPU"),
        };
    }
    Ok(f(slices))
}

/// `Σ xᵢ yᵢ` in sixteen partial sums, which the compiler keeps in vector registers.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (x_chunks, y_chunks) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f32 = x_chunks
        .remainder()
        .iter()
        .zip(y_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in x_chunks.zip(y_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
