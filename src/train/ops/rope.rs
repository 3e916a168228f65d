//! Rotary position embedding: pair `i` of a head's features turns by the angle `position · frequency_i`, in each head
//! alike.
//!
//! A rotation's gradient is the rotation back.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{contiguous, map_f32};

/// Which features make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `(x₂ᵢ, x₂ᵢ₊₁)`: the row order of `llama` GGUFs.
    Adjacent,
    /// `(xᵢ, xᵢ₊ₙ)`, `n = n_rot / 2`: that of the others.
    Halves,
}

/// The angles' sines and cosines for the rows of one batch.
#[derive(Clone)]
pub struct Rope {
    /// `[t, n_rot / 2]` of (cos, sin).
    rotations: Arc<Vec<(f32, f32)>>,
    pairs: Pairs,
    head_dim: usize,
    n_rot: usize,
}

impl Rope {
    /// `positions`: `[t]`; `frequencies`: `[n_rot / 2]`, radians a position.
    pub fn new(positions: &[usize], frequencies: &[f32], pairs: Pairs, head_dim: usize) -> Self {
        let turn = |&position: &usize| {
            frequencies.iter().map(move |frequency| {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                (cos, sin)
            })
        };
        let rotations = Arc::new(positions.iter().flat_map(turn).collect());
        Self {
            rotations,
            pairs,
            head_dim,
            n_rot: 2 * frequencies.len(),
        }
    }

    /// `[t, n_head · head_dim]` → the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Rotate {
            rope: self.clone(),
            back: false,
        })
    }

    fn rotate(&self, rows: &mut [f32], width: usize, back: bool) {
        let sign = if back { -1.0 } else { 1.0 };
        let half = self.n_rot / 2;
        rows.par_chunks_mut(width)
            .zip(self.rotations.par_chunks(half))
            .for_each(|(row, rotations)| {
                for head in row.chunks_exact_mut(self.head_dim) {
                    let turned = &mut head[..self.n_rot];
                    match self.pairs {
                        Pairs::Adjacent => {
                            for (pair, &(cos, sin)) in turned.chunks_exact_mut(2).zip(rotations) {
                                (pair[0], pair[1]) = turn(pair[0], pair[1], cos, sign * sin);
                            }
                        }
                        Pairs::Halves => {
                            let (first, second) = turned.split_at_mut(half);
                            for ((x, y), &(cos, sin)) in first.iter_mut().zip(second).zip(rotations)
                            {
                                (*x, *y) = turn(*x, *y, cos, sign * sin);
                            }
                        }
                    }
                }
            });
    }
}

fn turn(x: f32, y: f32, cos: f32, sin: f32) -> (f32, f32) {
    (x * cos - y * sin, x * sin + y * cos)
}

struct Rotate {
    rope: Rope,
    back: bool,
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let mut y = contiguous(storage, layout)?.to_vec();
        self.rope.rotate(&mut y, width, self.back);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        let mut dx = map_f32(dy, <[f32]>::to_vec)?;
        self.rope.rotate(&mut dx, width, !self.back);
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
