//! The transformer that is trained: the weights of the GGUF file that llama.cpp runs, frozen, with an adapter beside
//! them.
//!
//! ```text
//! x = embedding(tokens)      x = block(x), for each block      logits = Head · norm(x)
//! ```
//!
//! The embedding is in [`super::stem`], a block in [`super::block`], the end in [`super::head`]; [`super::family`] says
//! what sets one architecture apart from another. A model that was moved to a device by [`TrainModel::on_candle`]
//! computes in candle's operations instead ([`super::candle`]).

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use cope_convert::gguf::Gguf;
use cope_convert::{Adapter, RopeFactors};

use super::block::key_values::SharedKeys;
use super::block::recall::{Memory, Recall};
use super::block::{Block, View};
use super::block_reader;
use super::block_stack::{BlockView, StackOp};
use super::candle::CandleModel;
use super::family::{Divisors, Family, OutputHead};
use super::head::{Head, HeadOp, Predictions, gather};
use super::layer_inputs::LayerInputs;
use super::lora::{Lora, LoraConfig};
use super::ops::attention::{Mask, Segment};
use super::ops::linear::{FrozenWeight, WeightType};
use super::ops::map_f32;
use super::ops::norm::RmsNorm;
use super::packing::{PackedBatch, PackedRows};
use super::shape::Shape;
use super::stem::Stem;
use super::stop_flag::StopFlag;
use super::train_event::PassObserver;
use super::weights::Weights;
use crate::Result;
use crate::llama::{self, ContextOptions, Token};

/// A model with frozen weights, which adapters are trained on.
pub struct TrainModel {
    stem: Arc<Stem>,
    blocks: Arc<Vec<Block>>,
    head: Arc<Head>,
    /// The factors of the rotary frequencies, of a model that has two sets.
    rope_factors: Option<RopeFactors>,
    /// Whether the backward pass recomputes each block's activations.
    recompute: bool,
    /// A copy of the weights on a device, which computes in their place.
    candle: Option<CandleModel>,
    /// Ends a pass between two blocks.
    stop: StopFlag,
}

/// Reads the divisors of the rotary frequencies in blocks with full attention, `[n_rot / 2]`, of the set `rope_factors`
/// where the family has two.
fn read_divisors(
    weights: &mut Weights,
    shape: &Shape,
    family: &Family,
    rope_factors: Option<RopeFactors>,
) -> Result<Option<Vec<f32>>> {
    let n = shape.rope.n_rot / 2;
    let n_read = match family.divisors {
        Divisors::OneSet => Some(n),
        Divisors::WholeHead => Some(shape.rope.head_dim / 2),
        Divisors::TwoSets => None,
    };
    if let Some(n_read) = n_read {
        return weights.vector_if_there("rope_freqs.weight", n_read);
    }
    let short = weights.vector_if_there("rope_factors_short.weight", n)?;
    let long = weights.vector_if_there("rope_factors_long.weight", n)?;
    Ok(match rope_factors {
        Some(RopeFactors::Long) => long,
        _ => short,
    })
}

/// Reads the token embedding and the head, which may be one matrix.
fn read_ends(
    weights: &mut Weights,
    shape: &Shape,
    family: &Family,
) -> Result<(FrozenWeight, Head)> {
    let norm = RmsNorm::new(
        weights.vector(&format!("{}.weight", family.output_norm), shape.n_embd)?,
        shape.epsilon,
    );
    let (table, head) = ("token_embd.weight", "output.weight");
    let has_head = match family.head {
        OutputHead::OwnOrTied => weights.contains(head),
        OutputHead::Own => true,
        OutputHead::Tied => false,
    };
    let (embedding, head) = if has_head {
        let embedding = weights.table(table, shape.n_vocab, shape.n_embd)?;
        let head = weights.linear(head, shape.n_vocab, shape.n_embd)?;
        (embedding, head)
    } else {
        let tied = weights.linear(table, shape.n_vocab, shape.n_embd)?;
        let bias = weights.vector_if_there("output.bias", shape.n_vocab)?;
        let head = match bias {
            Some(bias) => tied.clone().with_bias(bias),
            None => tied.clone(),
        };
        (tied, head)
    };
    let head = Head {
        norm,
        weight: head,
        scaling: shape.logit_scaling,
    };
    Ok((embedding, head))
}

impl TrainModel {
    /// Reads all weights, and holds them in `weight_type`.
    ///
    /// # Errors
    /// The architecture belongs to no [`Family`]; a setting or a tensor is missing or has another shape; or the file
    /// has a setting or a tensor that this code does not know.
    pub fn load(gguf: &Gguf, weight_type: WeightType) -> Result<Self> {
        Self::load_with_task(gguf, weight_type, None, None, &mut || Ok(()))
    }

    /// [`Self::load`], with a task adapter added to the weights, and with these factors of the rotary frequencies where the
    /// file has two sets of them; `None` takes those of a context of the default size. The adapter must fit the base
    /// (`Adapter::check_fits`). `read` is called after each layer.
    ///
    /// # Errors
    /// Those of [`Self::load`], or `read` returned an error.
    pub fn load_with_task(
        gguf: &Gguf,
        weight_type: WeightType,
        task: Option<&Adapter>,
        rope_factors: Option<RopeFactors>,
        read: PassObserver,
    ) -> Result<Self> {
        let family = Family::of(gguf)?;
        let shape = Shape::read(gguf, family)?;
        let mut weights = Weights::new(gguf, weight_type, task);
        let mut blocks = Vec::with_capacity(shape.n_layer);
        for layer in 0..shape.n_layer {
            blocks.push(block_reader::read(&mut weights, layer, &shape, family)?);
            read()?;
        }
        let (embedding, head) = read_ends(&mut weights, &shape, family)?;
        let usual = llama::rope_factors(gguf, ContextOptions::default().n_ctx);
        let rope_factors = usual.map(|usual| rope_factors.unwrap_or(usual));
        let rope_divisors = read_divisors(&mut weights, &shape, family, rope_factors)?;
        let layer_inputs = LayerInputs::read(&mut weights, &shape)?;
        for layer in (0..shape.n_layer).filter(|&it| shape.earlier_keys(it).is_some()) {
            weights.leave_keys(layer);
        }
        weights.leave_blocks(shape.n_layer..shape.n_layer + shape.n_further);
        weights.finish()?;
        Ok(Self {
            stem: Arc::new(Stem {
                family,
                shape,
                embedding,
                rope_divisors,
                layer_inputs,
            }),
            rope_factors,
            blocks: Arc::new(blocks),
            head: Arc::new(head),
            recompute: false,
            candle: None,
            stop: StopFlag::default(),
        })
    }

    /// Moves the model's computation to candle's operations on `device`, with a copy of its weights in `dtype`.
    ///
    /// # Errors
    /// The device has too little memory, or a tensor operation failed.
    pub fn on_candle(self, device: &Device, dtype: DType) -> Result<Self> {
        let candle = CandleModel::new(&self.stem, &self.blocks, &self.head, device, dtype)?;
        Ok(Self {
            candle: Some(candle),
            ..self
        })
    }

    /// Sets whether backward passes recompute each block's activations instead of keeping them (gradient
    /// checkpointing).
    #[must_use]
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// Has this flag end the passes of the model's own operations.
    #[must_use]
    pub(super) fn stopped_by(self, stop: StopFlag) -> Self {
        Self { stop, ..self }
    }

    /// The model's sizes.
    pub fn shape(&self) -> &Shape {
        &self.stem.shape
    }

    /// The factors of the rotary frequencies, of a model that has two sets for contexts of different sizes.
    pub fn rope_factors(&self) -> Option<RopeFactors> {
        self.rope_factors
    }

    /// A fresh adapter for this model.
    ///
    /// # Errors
    /// See [`Lora::new`].
    pub fn lora(&self, config: &LoraConfig, seed: u64) -> Result<Lora> {
        Lora::new(config, self.shape(), seed)
    }

    /// Log-probabilities of the batch's response tokens, `[r]`, in nats. The head runs only on the rows that predict
    /// them. The result has a gradient if there is an adapter and it is not frozen.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn logprobs(&self, batch: &PackedBatch, lora: Option<&Lora>) -> Result<Tensor> {
        let predictions = Predictions {
            predictors: batch.predictors.clone(),
            targets: batch.targets.clone(),
        };
        if let Some(candle) = &self.candle {
            let x = candle.run_rows(&batch.rows, lora)?;
            let logprobs = candle.logprobs(&x, &predictions)?;
            return Ok(logprobs.to_device(&Device::Cpu)?);
        }
        match lora {
            Some(lora) if lora.is_trained() => {
                let x = self.graph(&batch.rows, lora)?;
                Ok(HeadOp::apply(&self.head, &x, predictions)?)
            }
            _ => {
                let x = self.run_rows(&batch.rows, lora)?;
                let logprobs = self.head.logprobs(&x, &predictions)?;
                let n = logprobs.len();
                Ok(Tensor::from_vec(logprobs, n, &Device::Cpu)?)
            }
        }
    }

    /// The unnormalised logits of every row, `[t, n_vocab]`.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn logits(&self, rows: &PackedRows, lora: Option<&Lora>) -> Result<Vec<f32>> {
        if let Some(candle) = &self.candle {
            let logits = candle.logits(&candle.run_rows(rows, lora)?)?;
            return Ok(logits.flatten_all()?.to_vec1()?);
        }
        Ok(self.head.logits(&self.run_rows(rows, lora)?))
    }

    /// The blocks' results for the rows that predict the batch's response tokens, `[r, n_embd]`, before the last norm.
    /// They have no gradient.
    pub(super) fn predicting_rows(
        &self,
        batch: &PackedBatch,
        lora: Option<&Lora>,
    ) -> Result<Vec<f32>> {
        let lora = lora.map(Lora::frozen);
        let x = match &self.candle {
            Some(candle) => {
                let x = candle.run_rows(&batch.rows, lora.as_ref())?;
                x.flatten_all()?.to_vec1()?
            }
            None => self.run_rows(&batch.rows, lora.as_ref())?,
        };
        Ok(gather(&x, &batch.predictors, self.shape().n_embd))
    }

    /// The unnormalised logits, `[r, n_vocab]`, of the blocks' results `x`, `[r, n_embd]`.
    pub(super) fn head_logits(&self, x: Vec<f32>) -> Result<Vec<f32>> {
        match &self.candle {
            Some(candle) => {
                let logits = candle.logits(&candle.rows(x, self.shape().n_embd)?)?;
                Ok(logits.flatten_all()?.to_vec1()?)
            }
            None => Ok(self.head.logits(&x)),
        }
    }

    /// Log-probabilities of given tokens, `[r]`, in nats, from the blocks' results `x`, `[t, n_embd]`.
    pub(super) fn head_logprobs(&self, x: &[f32], predictions: &Predictions) -> Result<Vec<f32>> {
        match &self.candle {
            _ if predictions.targets.is_empty() => Ok(Vec::new()),
            Some(candle) => {
                let x = candle.rows(x.to_vec(), self.shape().n_embd)?;
                Ok(candle.logprobs(&x, predictions)?.to_vec1()?)
            }
            None => Ok(self.head.logprobs(x, predictions)?),
        }
    }

    /// The copy on a device that computes in place of this model's own weights, if there is one.
    pub(super) fn candle(&self) -> Option<&CandleModel> {
        self.candle.as_ref()
    }

    /// Runs the blocks over a batch as a node of candle's graph, with a gradient for the adapter. Returns `[t,
    /// n_embd]`, before the last norm.
    fn graph(&self, rows: &PackedRows, lora: &Lora) -> Result<Tensor> {
        let ropes = self.stem.ropes(&rows.positions);
        let x = self.stem.embed(&rows.tokens)?;
        let inputs = self.stem.inputs(&rows.tokens, &x)?;
        let view = |layer| BlockView {
            rope: self.stem.rotation(&ropes, layer).cloned(),
            window: self.stem.window(layer),
            earlier_keys: self.shape().earlier_keys(layer),
            input: inputs.get(layer).cloned(),
        };
        Ok(StackOp::apply(
            &self.blocks,
            (0..self.shape().n_layer).map(view).collect(),
            &rows.segments,
            x,
            lora.stack()?,
            (self.recompute, self.stop.clone()),
        )?)
    }

    /// Runs the blocks over a batch without gradients. Returns `[t, n_embd]`, before the last norm.
    fn run_rows(&self, rows: &PackedRows, lora: Option<&Lora>) -> Result<Vec<f32>> {
        self.run((&rows.tokens, &rows.positions), &rows.segments, lora, None)
    }

    /// Runs the blocks without gradients over tokens and their positions, `[t]` each: over these rows alone, or with a
    /// memory of each block, whose rows the tokens are written to. Returns `[t, n_embd]`, before the last norm.
    pub(super) fn run(
        &self,
        (tokens, positions): (&[Token], &[usize]),
        segments: &[Segment],
        lora: Option<&Lora>,
        mut memory: Option<(&mut [Memory], &[usize])>,
    ) -> Result<Vec<f32>> {
        let ropes = self.stem.ropes(positions);
        let mut x = self.stem.embed(tokens)?;
        let inputs = self.stem.inputs(tokens, &x)?;
        let mut keys = SharedKeys::default();
        for (layer, block) in self.blocks.iter().enumerate() {
            self.stop.check()?;
            let earlier_keys = self.shape().earlier_keys(layer);
            let view = View {
                rope: self.stem.rotation(&ropes, layer),
                mask: Mask {
                    segments,
                    window: self.stem.window(layer),
                },
                keys: earlier_keys.and_then(|layer| keys.of(layer)),
                input: inputs.get(layer),
            };
            let recall = memory.as_mut().map(|(memories, rows)| Recall {
                memory: &mut memories[earlier_keys.unwrap_or(layer)],
                rows,
            });
            let (y, kept) = match lora {
                None => block.forward(&x, &Default::default(), view, recall),
                Some(lora) => {
                    let lora = lora.layer(layer)?;
                    map_f32(&lora.flat, |flat| {
                        let adapters = lora.layout.split(flat);
                        block.forward(&x, &adapters, view, recall)
                    })?
                }
            };
            x = y;
            if self.shape().are_keys_shared(layer)
                && let Some(own) = kept.keys()
            {
                keys.keep(layer, Arc::clone(own));
            }
        }
        Ok(x)
    }

    /// An empty memory of `rows` rows for each block.
    pub(super) fn memories(&self, rows: usize) -> Vec<Memory> {
        let memory = |layer| match self.shape().attention(layer) {
            Some(attention) if attention.has_own_keys() => {
                Memory::keys_and_values(rows, attention.key_width())
            }
            _ => Memory::states(),
        };
        (0..self.shape().n_layer).map(memory).collect()
    }
}
