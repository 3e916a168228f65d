//! The blocks of a model, one after the other, as one operation of candle's graph on their adapters.
//!
//! Block by block, candle would add each gradient to zeros, and wait for threads of its own that go on spinning beside
//! ours.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::block::{Activations, Block};
use super::lora::{LoraLayout, StackLora, flat_gradients};
use super::ops::attention::{Mask, Segment, attend};
use super::ops::rope::Rope;
use super::ops::{contiguous, map_f32};

/// The operation: from the adapters' matrices to the rows after the last block, with a gradient for the matrices.
pub struct StackOp {
    blocks: Arc<Vec<Block>>,
    /// Of each block's adapters.
    layouts: Vec<LoraLayout>,
    /// Of each block.
    views: Vec<View>,
    segments: Arc<Vec<Segment>>,
    /// The embedded tokens, `[t, n_embd]`.
    x: Vec<f32>,
    /// From the forward pass to the backward, by block.
    kept: Mutex<Vec<Kept>>,
    recompute: bool,
}

/// How a block sees positions.
pub struct View {
    pub rope: Arc<Rope>,
    /// Keys that a query sees at most, if not all before it.
    pub window: Option<usize>,
}

/// What a block was given, and what it came to on the way; that is computed again where it is not kept.
struct Kept {
    x: Vec<f32>,
    activations: Option<Activations>,
}

impl StackOp {
    /// `x`: `[t, n_embd]`; the result's shape too.
    pub fn apply(
        blocks: &Arc<Vec<Block>>,
        views: Vec<View>,
        segments: &Arc<Vec<Segment>>,
        x: Vec<f32>,
        lora: StackLora,
        recompute: bool,
    ) -> Result<Tensor> {
        lora.flat.apply_op1(Self {
            blocks: Arc::clone(blocks),
            layouts: lora.layouts,
            views,
            segments: Arc::clone(segments),
            x,
            kept: Mutex::default(),
            recompute,
        })
    }

    fn block(&self, layer: usize, x: &[f32], flat: &[f32]) -> (Vec<f32>, Activations) {
        let (block, view) = (&self.blocks[layer], &self.views[layer]);
        let attend =
            |q: &[f32], k: &[f32], v: &[f32]| attend(q, k, v, block.heads, self.mask(layer));
        let adapters = self.layouts[layer].split(flat);
        block.forward_keeping(x, &adapters, &view.rope, attend)
    }

    fn mask(&self, layer: usize) -> Mask<'_> {
        Mask {
            segments: &self.segments,
            window: self.views[layer].window,
        }
    }

    /// The part of `flat` that each block's adapters have.
    fn parts<'a>(&self, mut flat: &'a [f32]) -> Vec<&'a [f32]> {
        let part = |layout: &LoraLayout| {
            let part;
            (part, flat) = flat.split_at(layout.len());
            part
        };
        self.layouts.iter().map(part).collect()
    }

    fn forward(&self, flat: &[f32]) -> (Vec<f32>, Vec<Kept>) {
        let mut x = self.x.clone();
        let mut kept = Vec::with_capacity(self.blocks.len());
        for (layer, flat) in self.parts(flat).into_iter().enumerate() {
            let (y, activations) = self.block(layer, &x, flat);
            kept.push(Kept {
                x: std::mem::replace(&mut x, y),
                activations: (!self.recompute).then_some(activations),
            });
        }
        (x, kept)
    }

    /// The gradient of `flat`.
    fn backward(&self, flat: &[f32], kept: Vec<Kept>, dy: &[f32]) -> Vec<f32> {
        let mut dy = dy.to_vec();
        let mut gradients = Vec::with_capacity(self.blocks.len());
        let blocks = self.parts(flat).into_iter().zip(kept).enumerate();
        for (layer, (flat, Kept { x, activations })) in blocks.rev() {
            let activations = activations.unwrap_or_else(|| self.block(layer, &x, flat).1);
            let (block, rope) = (&self.blocks[layer], &self.views[layer].rope);
            let adapters = self.layouts[layer].split(flat);
            let of_adapters;
            (dy, of_adapters) =
                block.backward(&x, activations, &adapters, rope, self.mask(layer), &dy);
            gradients.push(flat_gradients(of_adapters));
        }
        gradients.reverse();
        gradients.concat()
    }
}

impl CustomOp1 for StackOp {
    fn name(&self) -> &'static str {
        "stack"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, kept) = self.forward(contiguous(storage, layout)?);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        let t = self
            .segments
            .iter()
            .map(|segment| segment.queries.len())
            .sum::<usize>();
        let shape = (t, y.len() / t.max(1));
        Ok((CpuStorage::F32(y), shape.into()))
    }

    fn bwd(&self, flat: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        if kept.len() != self.blocks.len() {
            bail!("a second backward pass through one forward pass");
        }
        let d_flat = map_f32(flat, |flat| map_f32(dy, |dy| self.backward(flat, kept, dy)))??;
        Ok(Some(Tensor::from_vec(d_flat, flat.shape(), flat.device())?))
    }
}
