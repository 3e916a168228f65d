//! The transformer in candle, on the weights of the GGUF file that llama.cpp runs, with places for LoRA.
//!
//! ```text
//! x = embedding(tokens)
//! block:  x += post(O · attention(rope(norm(Q n)), rope(norm(K n)), V n)),  n = norm(x)
//!         x += post(Down · (f(Gate m) ∘ (Up m))),                           m = norm(x)
//! hidden = norm(x)           logits = Head · hidden
//! ```
//!
//! The norms of Q and K, the post-norms, and biases of the linear layers are there where the file holds them; what else
//! sets a family apart is in [`super::family`].

use candle_core::{Device, Tensor};
use cope_convert::gguf::Gguf;

use super::batch::{Batch, Rows};
use super::family::Family;
use super::lora::{Lora, LoraConfig, TargetModule};
use super::ops::attention::{Mask, attention};
use super::ops::gate::gated;
use super::ops::logps::token_logprobs;
use super::ops::norm::RmsNorm;
use super::ops::rope::Rope;
use super::ops::weight::{FrozenWeight, WeightType};
use super::shape::{RopeSettings, Shape};
use super::weights::Weights;
use crate::llama::Token;
use crate::{Error, Result};

/// A model with frozen weights.
pub struct Model {
    family: &'static Family,
    shape: Shape,
    embedding: FrozenWeight,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: FrozenWeight,
    /// Divisors of the frequencies of full attention's pairs, `[n_rot / 2]`, where the file has them (Llama 3).
    rope_factors: Option<Vec<f32>>,
}

struct Block {
    attention_norm: RmsNorm,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    post_attention_norm: Option<RmsNorm>,
    feed_forward_norm: RmsNorm,
    post_feed_forward_norm: Option<RmsNorm>,
    /// In the order of [`TargetModule::ALL`].
    linear: [FrozenWeight; 7],
}

impl Block {
    fn read(weights: &mut Weights, layer: usize, shape: &Shape) -> Result<Self> {
        let [q, k, v, o, gate, up, down] = TargetModule::ALL.map(|target| {
            let (n_out, n_in) = shape.linear(target);
            weights.linear(&target.tensor_name(layer), n_out, n_in)
        });
        let linear = [q?, k?, v?, o?, gate?, up?, down?];
        let mut norm = |name: &str, len: usize| -> Result<Option<RmsNorm>> {
            let name = format!("blk.{layer}.{name}.weight");
            let weight = weights.vector_if_there(&name, len)?;
            Ok(weight.map(|weight| RmsNorm::new(weight, shape.epsilon)))
        };
        let (n_embd, head_dim) = (shape.n_embd, shape.heads.head_dim);
        let q_norm = norm("attn_q_norm", head_dim)?;
        let k_norm = norm("attn_k_norm", head_dim)?;
        let post_attention_norm = norm("post_attention_norm", n_embd)?;
        let post_feed_forward_norm = norm("post_ffw_norm", n_embd)?;
        let mut norm = |name: &str| -> Result<RmsNorm> {
            let weight = weights.vector(&format!("blk.{layer}.{name}.weight"), n_embd)?;
            Ok(RmsNorm::new(weight, shape.epsilon))
        };
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            feed_forward_norm: norm("ffn_norm")?,
            q_norm,
            k_norm,
            post_attention_norm,
            post_feed_forward_norm,
            linear,
        })
    }
}

impl Model {
    /// Reads all weights, to hold them in `weight_type`.
    ///
    /// # Errors
    /// The architecture is of no [`Family`], or a setting or tensor is missing, of another shape, or one that this code
    /// does not know.
    pub fn load(gguf: &Gguf, weight_type: WeightType) -> Result<Self> {
        let architecture = gguf.architecture()?;
        let family = Family::of(architecture).ok_or_else(|| {
            Error::input(format_args!(
                "{}: models of architecture '{architecture}' cannot be trained yet; supported: {}",
                gguf.path.display(),
                Family::supported()
            ))
        })?;
        let shape = Shape::read(gguf, family)?;
        let mut weights = Weights::new(gguf, weight_type);
        let mut blocks = Vec::with_capacity(shape.n_layer);
        for layer in 0..shape.n_layer {
            blocks.push(Block::read(&mut weights, layer, &shape)?);
        }
        let norm = RmsNorm::new(
            weights.vector("output_norm.weight", shape.n_embd)?,
            shape.epsilon,
        );
        let embedding = weights.linear("token_embd.weight", shape.n_vocab, shape.n_embd)?;
        let head = if weights.contains("output.weight") {
            weights.linear("output.weight", shape.n_vocab, shape.n_embd)?
        } else {
            embedding.clone()
        };
        let rope_factors = weights.vector_if_there("rope_freqs.weight", shape.rope.n_rot / 2)?;
        weights.finish()?;
        Ok(Self {
            family,
            shape,
            embedding,
            blocks,
            norm,
            head,
            rope_factors,
        })
    }

    /// The model's sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// A fresh adapter for this model.
    ///
    /// # Errors
    /// See [`Lora::new`].
    pub fn lora(&self, config: &LoraConfig, seed: u64) -> Result<Lora> {
        Lora::new(
            config,
            self.shape.n_layer,
            |target| self.shape.linear(target),
            seed,
        )
    }

    /// Log-probabilities, in nats, of the batch's response tokens, `[r]`; the head runs at these positions alone.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn logprobs(&self, batch: &Batch, lora: Option<&Lora>) -> Result<Tensor> {
        let hidden = self.hidden(&batch.rows, lora)?;
        let predictors = Tensor::new(batch.predictors.as_slice(), &Device::Cpu)?;
        Ok(token_logprobs(
            &hidden.index_select(&predictors, 0)?,
            &self.head,
            batch.targets.clone(),
        )?)
    }

    /// Logits of every row, `[t, n_vocab]`, unnormalised.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn logits(&self, rows: &Rows, lora: Option<&Lora>) -> Result<Tensor> {
        Ok(self.head.forward(&self.hidden(rows, lora)?, None)?)
    }

    /// Keys that a query of a block sees at most, if not all before it.
    pub(super) fn window(&self, layer: usize) -> Option<usize> {
        let sliding = self.shape.sliding.filter(|sliding| sliding.has(layer))?;
        Some(sliding.window)
    }

    fn hidden(&self, rows: &Rows, lora: Option<&Lora>) -> Result<Tensor> {
        let attend = |layer, q: &Tensor, k: &Tensor, v: &Tensor| {
            let mask = Mask {
                segments: &rows.segments,
                window: self.window(layer),
            };
            attention(q, k, v, self.shape.heads, mask)
        };
        self.run(&rows.tokens, &rows.positions, lora, attend)
    }

    /// The blocks, with `attend(layer, q, k, v)` for attention: over the rows themselves, or over a cache.
    /// Returns the hidden states after the last norm, `[t, n_embd]`.
    pub(super) fn run(
        &self,
        tokens: &[Token],
        positions: &[usize],
        lora: Option<&Lora>,
        mut attend: impl FnMut(usize, &Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let full = self.rope(positions, self.shape.rope, self.rope_factors.as_deref());
        let sliding = self.shape.sliding;
        let sliding = sliding.map(|sliding| self.rope(positions, sliding.rope, None));
        let mut x = self.embed(tokens)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let rope = match &sliding {
                Some(sliding) if self.window(layer).is_some() => sliding,
                _ => &full,
            };
            let project = |x: &Tensor, target: TargetModule| {
                let weight = &block.linear[target as usize];
                lora.map_or_else(
                    || weight.forward(x, None),
                    |lora| lora.forward(weight, x, layer, target),
                )
            };
            let normed = block.attention_norm.forward(&x)?;
            let q = normed_if(block.q_norm.as_ref(), project(&normed, TargetModule::Q)?)?;
            let k = normed_if(block.k_norm.as_ref(), project(&normed, TargetModule::K)?)?;
            let v = project(&normed, TargetModule::V)?;
            let attended = attend(layer, &rope.forward(&q)?, &rope.forward(&k)?, &v)?;
            let attended = project(&attended, TargetModule::O)?;
            x = (x + normed_if(block.post_attention_norm.as_ref(), attended)?)?;
            let normed = block.feed_forward_norm.forward(&x)?;
            let gate = project(&normed, TargetModule::Gate)?;
            let up = project(&normed, TargetModule::Up)?;
            let down = project(
                &gated(&gate, &up, self.family.activation)?,
                TargetModule::Down,
            )?;
            x = (x + normed_if(block.post_feed_forward_norm.as_ref(), down)?)?;
        }
        Ok(self.norm.forward(&x)?)
    }

    fn rope(&self, positions: &[usize], settings: RopeSettings, factors: Option<&[f32]>) -> Rope {
        let RopeSettings {
            n_rot,
            base,
            factor,
        } = settings;
        let frequencies: Vec<f32> = (0..n_rot / 2)
            .map(|i| {
                let own = factors.map_or(1.0, |factors| factors[i]);
                base.powf(-2.0 * i as f32 / n_rot as f32) / factor / own
            })
            .collect();
        Rope::new(
            positions,
            &frequencies,
            self.family.pairs,
            self.shape.heads.head_dim,
        )
    }

    /// The head over rows of hidden states: `[r, n_embd]` → `[r, n_vocab]`.
    pub(super) fn head(&self) -> &FrozenWeight {
        &self.head
    }

    fn embed(&self, tokens: &[Token]) -> Result<Tensor> {
        let mut x = Vec::with_capacity(tokens.len() * self.shape.n_embd);
        for &token in tokens {
            match usize::try_from(token) {
                Ok(id) if id < self.shape.n_vocab => x.extend(self.embedding.row(id)),
                _ => {
                    return Err(Error::Train(format!(
                        "a token id {token} beyond the vocabulary"
                    )));
                }
            }
        }
        if self.family.scales_embedding {
            let scale = (self.shape.n_embd as f32).sqrt();
            x.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(Tensor::from_vec(
            x,
            (tokens.len(), self.shape.n_embd),
            &Device::Cpu,
        )?)
    }
}

fn normed_if(norm: Option<&RmsNorm>, x: Tensor) -> candle_core::Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x),
        None => Ok(x),
    }
}
