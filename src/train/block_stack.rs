//! All blocks of a model as a single operation of candle's graph on their adapters.
//!
//! With an operation for each block, candle would add each gradient to zeros, and would wait for threads of its own,
//! which spin beside ours and slow them down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::block::key_values::SharedKeys;
use super::block::{Activations, Block, View};
use super::lora::{LoraLayout, StackLora};
use super::ops::attention::{Mask, Segment};
use super::ops::rope::Ropes;
use super::ops::{contiguous, map_f32};
use super::stop_flag::StopFlag;

/// The operation: from the adapters' matrices to the rows after the last block, with a gradient for the matrices.
pub struct StackOp {
    blocks: Arc<Vec<Block>>,
    /// The layout of each block's adapters.
    layouts: Vec<LoraLayout>,
    /// The rotations, the window, the keys and the input of each block.
    views: Vec<BlockView>,
    segments: Arc<Vec<Segment>>,
    /// The embedded tokens, `[t, n_embd]`.
    x: Vec<f32>,
    /// Values that the forward pass leaves for the backward pass.
    kept: Mutex<Option<KeptPass>>,
    /// Whether the backward pass recomputes activations.
    recompute: bool,
    /// Ends a pass between two blocks.
    stop: StopFlag,
}

/// The rotations of a block's positions, the window of its attention, and what it is given beside the residual stream.
pub struct BlockView {
    /// `None` for a block without a rotation.
    pub rope: Option<Ropes>,
    /// The most keys that a query sees; `None` for full attention.
    pub window: Option<usize>,
    /// The earlier block whose keys and values it uses, if it has none of its own.
    pub earlier_keys: Option<usize>,
    /// Its own input, `[t, n_input]`, if it has one.
    pub input: Option<Arc<Vec<f32>>>,
}

/// The values that a forward pass leaves.
struct KeptPass {
    blocks: Vec<Kept>,
    keys: SharedKeys,
}

/// The input of a block, `[t, n_embd]`, and its activations, unless the backward pass recomputes these.
struct Kept {
    x: Vec<f32>,
    activations: Option<Activations>,
}

impl StackOp {
    /// Runs the blocks on `x`: `[t, n_embd]` → `[t, n_embd]`. The backward pass recomputes activations where `recompute` says
    /// so, and `stop` ends both passes.
    ///
    /// # Errors
    /// A tensor operation failed, or the flag was set.
    pub fn apply(
        blocks: &Arc<Vec<Block>>,
        views: Vec<BlockView>,
        segments: &Arc<Vec<Segment>>,
        x: Vec<f32>,
        lora: StackLora,
        (recompute, stop): (bool, StopFlag),
    ) -> Result<Tensor> {
        lora.flat.apply_op1(Self {
            blocks: Arc::clone(blocks),
            layouts: lora.layouts,
            views,
            segments: Arc::clone(segments),
            x,
            kept: Mutex::default(),
            recompute,
            stop,
        })
    }

    /// Runs one block, with the adapter matrices in `flat`.
    fn block(
        &self,
        layer: usize,
        x: &[f32],
        flat: &[f32],
        keys: &SharedKeys,
    ) -> (Vec<f32>, Activations) {
        let adapters = self.layouts[layer].split(flat);
        self.blocks[layer].forward(x, &adapters, self.view(layer, keys), None)
    }

    fn view<'a>(&'a self, layer: usize, keys: &'a SharedKeys) -> View<'a> {
        let view = &self.views[layer];
        View {
            rope: view.rope.as_ref(),
            mask: Mask {
                segments: &self.segments,
                window: view.window,
            },
            keys: view.earlier_keys.and_then(|layer| keys.of(layer)),
            input: view.input.as_ref(),
        }
    }

    /// Splits `flat` into the parts of the blocks.
    fn parts<'a>(&self, mut flat: &'a [f32]) -> Vec<&'a [f32]> {
        let part = |layout: &LoraLayout| {
            let part;
            (part, flat) = flat.split_at(layout.len());
            part
        };
        self.layouts.iter().map(part).collect()
    }

    fn forward(&self, flat: &[f32]) -> Result<(Vec<f32>, KeptPass)> {
        let mut x = self.x.clone();
        let mut blocks = Vec::with_capacity(self.blocks.len());
        let mut keys = SharedKeys::default();
        for (layer, flat) in self.parts(flat).into_iter().enumerate() {
            self.stop.check_in_graph()?;
            let (y, activations) = self.block(layer, &x, flat, &keys);
            let is_source = |view: &BlockView| view.earlier_keys == Some(layer);
            if self.views.iter().any(is_source)
                && let Some(own) = activations.keys()
            {
                keys.keep(layer, Arc::clone(own));
            }
            blocks.push(Kept {
                x: std::mem::replace(&mut x, y),
                activations: (!self.recompute).then_some(activations),
            });
        }
        Ok((x, KeptPass { blocks, keys }))
    }

    /// The gradient of `flat`, from `dy`, that of the result.
    fn backward(&self, flat: &[f32], kept: KeptPass, dy: &[f32]) -> Result<Vec<f32>> {
        let KeptPass { blocks, keys } = kept;
        let mut dy = dy.to_vec();
        let mut gradients = Vec::with_capacity(self.blocks.len());
        // The gradients of the keys and values of each block that has made some.
        let mut d_keys = BTreeMap::new();
        let blocks = self.parts(flat).into_iter().zip(blocks).enumerate();
        for (layer, (flat, Kept { x, activations })) in blocks.rev() {
            self.stop.check_in_graph()?;
            let activations = activations.unwrap_or_else(|| self.block(layer, &x, flat, &keys).1);
            let adapters = self.layouts[layer].split(flat);
            let (block, view) = (&self.blocks[layer], self.view(layer, &keys));
            let source = self.views[layer].earlier_keys.unwrap_or(layer);
            let d_keys = d_keys.entry(source).or_default();
            let lora_gradients;
            (dy, lora_gradients) = block.backward(&x, activations, &adapters, view, dy, d_keys);
            gradients.push(self.layouts[layer].flat_gradients(lora_gradients));
        }
        gradients.reverse();
        Ok(gradients.concat())
    }
}

impl CustomOp1 for StackOp {
    fn name(&self) -> &'static str {
        "stack"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, kept) = self.forward(contiguous(storage, layout)?)?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        let t = self
            .segments
            .iter()
            .map(|segment| segment.queries.len())
            .sum::<usize>();
        let shape = (t, y.len() / t.max(1));
        Ok((CpuStorage::F32(y), shape.into()))
    }

    fn bwd(&self, flat: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(kept) = kept else {
            bail!("the backward pass of this forward pass has already run");
        };
        let d_flat = map_f32(flat, |flat| map_f32(dy, |dy| self.backward(flat, kept, dy)))???;
        Ok(Some(Tensor::from_vec(d_flat, flat.shape(), flat.device())?))
    }
}
