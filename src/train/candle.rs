//! The model in candle's operations, for CUDA and Metal, where our own operations do not run.
//!
//! It computes the same as [`super::block`] and [`super::head`], from a copy of their weights on the device. candle's
//! autograd connects the gradients, most of which are formulas of ours ([`custom_grad`]). On the CPU the tests compare
//! the two implementations. The adapter's variables stay on the CPU; each pass copies them to the device.

mod attention;
mod block;
mod cache;
mod cap;
mod custom_grad;
mod linear;
mod mixing;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Result as CandleResult, Tensor, bail};

pub(super) use cache::CandleCache;

use self::attention::AttentionPlan;
use self::block::CandleBlock;
use self::custom_grad::custom_grad;
use self::linear::{CandleAdapters, CandleLinear};
use self::mixing::{Attended, CandleView};
use self::rows::{Norm, Rotations};
use super::block::recall::{Memory, Recall};
use super::head::{Head, LogitScaling, Predictions, ROWS};
use super::lora::Lora;
use super::ops::attention::{Mask, Segment};
use super::ops::lineage::Lineage;
use super::packing::PackedRows;
use super::stem::{ByWindow, Stem};
use crate::Result;
use crate::llama::Token;

/// A model with its weights on a device.
pub(super) struct CandleModel {
    device: Device,
    stem: Arc<Stem>,
    blocks: Vec<CandleBlock>,
    norm: Norm,
    head: CandleLinear,
    logit_scaling: Option<LogitScaling>,
}

/// The rows of a pass.
struct CandlePass<'a> {
    tokens: &'a [Token],
    positions: &'a [usize],
    segments: &'a [Segment],
    /// The memories of the blocks, of which only those of states are used, and the rows that are written.
    memory: Option<(&'a mut [Memory], &'a [usize])>,
}

impl CandleModel {
    /// Copies weights to `device`. Products with the blocks' weights are computed in `dtype`, and their results are
    /// rounded to it.
    pub fn new(
        stem: &Arc<Stem>,
        blocks: &[super::block::Block],
        head: &Head,
        device: &Device,
        dtype: DType,
    ) -> CandleResult<Self> {
        let copy = |block: &super::block::Block| CandleBlock::new(block, device, dtype);
        Ok(Self {
            stem: Arc::clone(stem),
            blocks: blocks.iter().map(copy).collect::<CandleResult<_>>()?,
            norm: Norm::new(&head.norm, device)?,
            // Logits rounded to bf16 would be too coarse for log-probabilities.
            head: CandleLinear::new(&head.weight, device, DType::F32)?,
            logit_scaling: head.scaling,
            device: device.clone(),
        })
    }

    /// Runs the blocks over a batch. Returns `[t, n_embd]`, before the last norm, with a gradient if there is an
    /// adapter and it is not frozen.
    pub fn run_rows(&self, rows: &PackedRows, lora: Option<&Lora>) -> Result<Tensor> {
        let plans = self.plans(&rows.segments)?;
        let mut all_keys = BTreeMap::new();
        let pass = CandlePass {
            tokens: &rows.tokens,
            positions: &rows.positions,
            segments: &rows.segments,
            memory: None,
        };
        self.run(pass, lora, |layer, Attended { q, keys, heads }| {
            if let Some(own) = keys {
                all_keys.insert(layer, own);
            }
            let source = self.stem.shape.earlier_keys(layer).unwrap_or(layer);
            let Some((k, v)) = all_keys.get(&source) else {
                bail!("block {source} has no keys")
            };
            plans.get(self.stem.window(layer)).attend(q, k, v, heads)
        })
    }

    /// The plans of full and of sliding attention over `segments`.
    fn plans(&self, segments: &[Segment]) -> CandleResult<ByWindow<AttentionPlan>> {
        let plan = |window| AttentionPlan::new(Mask { segments, window }, &self.device);
        self.stem.windows().try_map(plan)
    }

    /// Runs the blocks, with `attend` for the attention of each block, whose number it is given. Returns `[t, n_embd]`, before the last norm.
    fn run(
        &self,
        pass: CandlePass,
        lora: Option<&Lora>,
        mut attend: impl FnMut(usize, Attended) -> CandleResult<Tensor>,
    ) -> Result<Tensor> {
        let CandlePass {
            tokens,
            positions,
            segments,
            mut memory,
        } = pass;
        let lineage = Arc::new(Lineage::new(segments));
        let ropes = self.stem.ropes(positions);
        let rotations = ropes.try_map(|ropes| Rotations::new(&ropes, &self.device))?;
        let embedded = self.stem.embed(tokens)?;
        let inputs = self.inputs(tokens, &embedded)?;
        let mut x = self.rows(embedded, self.stem.shape.n_embd)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let adapters = match lora {
                Some(lora) => CandleAdapters::new(lora.layer(layer)?, &self.device)?,
                None => CandleAdapters::default(),
            };
            let recall = memory.as_mut().map(|(memories, rows)| Recall {
                memory: &mut memories[layer],
                rows,
            });
            let view = CandleView {
                adapters: &adapters,
                rotations: self.stem.rotation(&rotations, layer),
                lineage: &lineage,
                input: inputs.get(layer),
                recall,
            };
            x = block.forward(&x, view, |attended| attend(layer, attended))?;
        }
        Ok(x)
    }

    /// The blocks' own inputs, of embedded tokens.
    fn inputs(&self, tokens: &[Token], embedded: &[f32]) -> Result<Vec<Tensor>> {
        let width = self.stem.shape.n_input.unwrap_or(0);
        let inputs = self.stem.inputs(tokens, embedded)?.into_iter();
        inputs
            .map(|input| Ok(self.rows(Arc::unwrap_or_clone(input), width)?))
            .collect()
    }

    /// The same as [`Head::logits`]: `[r, n_embd]` → `[r, n_vocab]`.
    pub fn logits(&self, x: &Tensor) -> CandleResult<Tensor> {
        self.logits_of_normed(&self.norm.forward(x)?)
    }

    fn logits_of_normed(&self, hidden: &Tensor) -> CandleResult<Tensor> {
        let logits = self.head.forward(hidden, None)?;
        let Some(LogitScaling { scale, soft_cap }) = self.logit_scaling else {
            return Ok(logits);
        };
        let logits = (logits * f64::from(scale))?;
        match soft_cap {
            Some(cap) => cap::soft_cap(&logits, cap),
            None => Ok(logits),
        }
    }

    /// The same as [`Head::logprobs`]: `[t, n_embd]` → `[r]`, with a gradient for `x`. There must be at least one
    /// prediction.
    pub fn logprobs(&self, x: &Tensor, predictions: &Predictions) -> CandleResult<Tensor> {
        let Predictions {
            predictors,
            targets,
        } = predictions;
        let n_vocab = self.head.n_out();
        if targets.iter().any(|&target| target as usize >= n_vocab) {
            bail!("a token id is beyond the vocabulary of {n_vocab} tokens");
        }
        let predictors = Tensor::new(predictors.as_slice(), &self.device)?;
        let hidden = self.norm.forward(&x.index_select(&predictors, 0)?)?;
        let (mut logprobs, mut jacobian) = (Vec::new(), Vec::new());
        for first in (0..targets.len()).step_by(ROWS) {
            let targets = &targets[first..targets.len().min(first + ROWS)];
            let targets = Tensor::new(targets, &self.device)?;
            let part = hidden.detach().narrow(0, first, targets.elem_count())?;
            let logits = self.logits_of_normed(&part)?;
            let max = logits.max_keepdim(1)?;
            let powers = logits.broadcast_sub(&max)?.exp()?;
            let sum = powers.sum_keepdim(1)?;
            let log_z = (max + sum.log()?)?;
            let chosen = logits.gather(&targets.unsqueeze(1)?, 1)?;
            logprobs.push((chosen - log_z)?.squeeze(1)?);
            if hidden.track_op() {
                let p = powers.broadcast_div(&sum)?;
                jacobian.push(self.jacobian(&logits, p, &targets)?);
            }
        }
        let logprobs = Tensor::cat(&logprobs, 0)?;
        if jacobian.is_empty() {
            return Ok(logprobs);
        }
        let jacobian = Tensor::cat(&jacobian, 0)?;
        custom_grad([&hidden], &logprobs, move |d| {
            Ok([jacobian.broadcast_mul(&d.unsqueeze(1)?)?])
        })
    }

    /// The rows `s (cap′_y W_y − (p ∘ cap′) W)` of the Jacobian in [`super::head`], from the logits, their softmax `p` and
    /// the targets.
    fn jacobian(&self, logits: &Tensor, p: Tensor, targets: &Tensor) -> CandleResult<Tensor> {
        let target_rows = self.head.rows(targets)?;
        let Some(LogitScaling { scale, soft_cap }) = self.logit_scaling else {
            return target_rows - self.head.backward(&p)?;
        };
        let rows = match soft_cap {
            Some(cap) => {
                let slopes = cap::slopes(logits, cap)?;
                let of_targets = slopes.gather(&targets.unsqueeze(1)?, 1)?;
                let mean = self.head.backward(&(p * slopes)?)?;
                (target_rows.broadcast_mul(&of_targets)? - mean)?
            }
            None => (target_rows - self.head.backward(&p)?)?,
        };
        rows * f64::from(scale)
    }

    /// Copies rows to the device, as a tensor `[t, width]`.
    pub fn rows(&self, x: Vec<f32>, width: usize) -> CandleResult<Tensor> {
        Tensor::from_vec(x, ((), width), &self.device)
    }
}
