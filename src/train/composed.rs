//! The model in candle's own operations, for the devices that have none of ours: CUDA and Metal.
//!
//! It computes what [`super::block`] and [`super::head`] do, from a copy of their weights on the device. candle finds the
//! gradients by itself, but for those of products with frozen weights ([`given`]), so on the CPU the one checks the other.
//! The adapter's variables stay on the CPU, and each pass takes a copy of them.

mod attention;
mod block;
mod cache;
mod given;
mod linear;

use std::sync::Arc;

use candle_core::{DType, Device, Result as CandleResult, Tensor};

pub(super) use cache::Cache;

use self::attention::{attend, dense};
use self::block::{Block, Norm, Rotation};
use self::given::given;
use self::linear::{Adapters, Linear};
use super::batch::Rows;
use super::head::{Head, Predictions, ROWS};
use super::lora::Lora;
use super::model::{Model, Ropes};
use super::ops::attention::Mask;
use crate::Result;
use crate::llama::Token;

/// A model's weights on a device.
pub(super) struct Composed {
    device: Device,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

impl Composed {
    /// Copies weights to `device`, to be multiplied in `dtype`.
    pub fn new(
        blocks: &[Arc<super::block::Block>],
        head: &Head,
        device: &Device,
        dtype: DType,
    ) -> CandleResult<Self> {
        let copy = |block: &Arc<super::block::Block>| Block::new(block, device, dtype);
        Ok(Self {
            blocks: blocks.iter().map(copy).collect::<CandleResult<_>>()?,
            norm: Norm::new(&head.norm, device)?,
            head: Linear::new(&head.weight, device, dtype)?,
            device: device.clone(),
        })
    }

    /// `[t, n_embd]`, before the last norm; with gradients if the adapter is not frozen.
    pub fn run_rows(&self, model: &Model, rows: &Rows, lora: Option<&Lora>) -> Result<Tensor> {
        let n = rows.tokens.len();
        let mask = |window| {
            let segments = &rows.segments;
            dense(Mask { segments, window }, n, n, &self.device)
        };
        let (full, sliding) = (mask(None)?, mask(model.sliding_window())?);
        let heads = model.shape().heads;
        self.run(
            model,
            &rows.tokens,
            &rows.positions,
            lora,
            |layer, q, k, v| {
                let mask = if model.window(layer).is_some() {
                    &sliding
                } else {
                    &full
                };
                attend(q, k, v, heads, mask)
            },
        )
    }

    /// [`Model::run`], with `[t, n_heads, head_dim]` for what is attended.
    fn run(
        &self,
        model: &Model,
        tokens: &[Token],
        positions: &[usize],
        lora: Option<&Lora>,
        mut attend: impl FnMut(usize, &Tensor, &Tensor, &Tensor) -> CandleResult<Tensor>,
    ) -> Result<Tensor> {
        let Ropes { full, sliding } = model.ropes(positions);
        let full = Rotation::new(&full, &self.device)?;
        let sliding = sliding
            .map(|rope| Rotation::new(&rope, &self.device))
            .transpose()?;
        let mut x = self.rows(model.embed(tokens)?, model.shape().n_embd)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let adapters = match lora {
                Some(lora) => Adapters::new(lora.layer(layer)?, &self.device)?,
                None => Adapters::default(),
            };
            let rotation = match &sliding {
                Some(sliding) if model.window(layer).is_some() => sliding,
                _ => &full,
            };
            x = block.forward(&x, &adapters, rotation, |q, k, v| attend(layer, q, k, v))?;
        }
        Ok(x)
    }

    /// [`Head::logits`], `[r, n_vocab]`, of `x`, `[r, n_embd]`.
    pub fn logits(&self, x: &Tensor) -> CandleResult<Tensor> {
        self.head.forward(&self.norm.forward(x)?, None)
    }

    /// [`Head::logprobs`], `[r]`, of `x`, `[t, n_embd]`, with a gradient for it.
    pub fn logprobs(&self, x: &Tensor, predictions: &Predictions) -> CandleResult<Tensor> {
        let Predictions {
            predictors,
            targets,
        } = predictions;
        if targets.is_empty() {
            return Tensor::zeros(0, DType::F32, &self.device);
        }
        let predictors = Tensor::new(predictors.as_slice(), &self.device)?;
        let hidden = self.norm.forward(&x.index_select(&predictors, 0)?)?;
        let (mut logprobs, mut jacobian) = (Vec::new(), Vec::new());
        for first in (0..targets.len()).step_by(ROWS) {
            let targets = &targets[first..targets.len().min(first + ROWS)];
            let targets = Tensor::new(targets, &self.device)?;
            let hidden = hidden.detach().narrow(0, first, targets.elem_count())?;
            let logits = self.head.forward(&hidden, None)?;
            let max = logits.max_keepdim(1)?;
            let powers = logits.broadcast_sub(&max)?.exp()?;
            let sum = powers.sum_keepdim(1)?;
            let log_z = (max + sum.log()?)?;
            let chosen = logits.gather(&targets.unsqueeze(1)?, 1)?;
            logprobs.push((chosen - log_z)?.squeeze(1)?);
            // As `super::head` has it: W_y − p W.
            let mean = self.head.backward(&powers.broadcast_div(&sum)?)?;
            jacobian.push((self.head.rows(&targets)? - mean)?);
        }
        let jacobian = Tensor::cat(&jacobian, 0)?;
        given(&hidden, &Tensor::cat(&logprobs, 0)?, move |d| {
            jacobian.broadcast_mul(&d.unsqueeze(1)?)
        })
    }

    /// Rows of the CPU's as a tensor of the device's, `[t, width]`.
    pub fn rows(&self, x: Vec<f32>, width: usize) -> CandleResult<Tensor> {
        Tensor::from_vec(x, ((), width), &self.device)
    }
}

/// `softmax` over the last dimension.
fn softmax(x: &Tensor) -> CandleResult<Tensor> {
    let last = x.rank() - 1;
    // A constant that is taken off all logits alike has no gradient.
    let max = x.detach().max_keepdim(last)?;
    let powers = x.broadcast_sub(&max)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(last)?)
}
