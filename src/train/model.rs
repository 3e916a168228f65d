//! The transformer in candle, on the weights of the GGUF file that llama.cpp runs, with places for LoRA.
//!
//! ```text
//! x = embedding(tokens)
//! block:  x += O · attention(rope(Q n), rope(K n), V n),  n = norm(x)
//!         x += Down · (silu(Gate m) ∘ (Up m)),            m = norm(x)
//! hidden = norm(x)           logits = Head · hidden
//! ```

use candle_core::{Device, Tensor};
use cope_convert::gguf::Gguf;

use super::batch::{Batch, Rows};
use super::lora::{Lora, LoraConfig, TargetModule};
use super::ops::attention::{Heads, attention};
use super::ops::linear::FrozenWeight;
use super::ops::logps::token_logprobs;
use super::ops::norm::RmsNorm;
use super::ops::rope::Rope;
use super::ops::swiglu::swiglu;
use super::weights::Weights;
use crate::llama::Token;
use crate::{Error, Result};

/// Architectures, as `general.architecture` names them, that can be trained.
pub const ARCHITECTURES: [&str; 1] = ["llama"];

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of blocks.
    pub n_layer: usize,
    /// Features of the residual stream.
    pub n_embd: usize,
    /// Features of the feed-forward block.
    pub n_ff: usize,
    /// Heads of attention.
    pub heads: Heads,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Positions that the model was made for.
    pub n_ctx: usize,
}

/// A model with frozen weights.
pub struct Model {
    shape: Shape,
    embedding: FrozenWeight,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: FrozenWeight,
    /// Radians a position, `[n_rot / 2]`.
    frequencies: Vec<f32>,
}

struct Block {
    attention_norm: RmsNorm,
    feed_forward_norm: RmsNorm,
    /// In the order of [`TargetModule::ALL`].
    linear: [FrozenWeight; 7],
}

impl Model {
    /// Reads and dequantises all weights: 4 bytes a parameter.
    ///
    /// # Errors
    /// The architecture is not one of [`ARCHITECTURES`], or a setting or tensor is missing, of another shape, or one
    /// that this code does not know.
    pub fn load(gguf: &Gguf) -> Result<Self> {
        let architecture = gguf.architecture()?;
        if !ARCHITECTURES.contains(&architecture) {
            return Err(Error::input(format_args!(
                "{}: models of architecture '{architecture}' cannot be trained yet; supported: {}",
                gguf.path.display(),
                ARCHITECTURES.join(", ")
            )));
        }
        let shape = Shape::read(gguf, architecture)?;
        let mut weights = Weights::new(gguf);
        let frequencies = frequencies(gguf, architecture, shape.heads.head_dim, &mut weights)?;
        let epsilon = gguf.f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"))?;
        let norm = |weights: &mut Weights, name: &str| -> Result<RmsNorm> {
            Ok(RmsNorm::new(weights.vector(name, shape.n_embd)?, epsilon))
        };
        let mut blocks = Vec::with_capacity(shape.n_layer);
        for layer in 0..shape.n_layer {
            let [q, k, v, o, gate, up, down] = TargetModule::ALL.map(|target| {
                let (n_out, n_in) = shape.linear(target);
                weights.matrix(&target.tensor_name(layer), n_out, n_in)
            });
            let linear = [q?, k?, v?, o?, gate?, up?, down?];
            let attention_norm = norm(&mut weights, &format!("blk.{layer}.attn_norm.weight"))?;
            let feed_forward_norm = norm(&mut weights, &format!("blk.{layer}.ffn_norm.weight"))?;
            blocks.push(Block {
                attention_norm,
                feed_forward_norm,
                linear,
            });
        }
        let norm = norm(&mut weights, "output_norm.weight")?;
        let embedding = weights.matrix("token_embd.weight", shape.n_vocab, shape.n_embd)?;
        let head = if weights.contains("output.weight") {
            weights.matrix("output.weight", shape.n_vocab, shape.n_embd)?
        } else {
            embedding.clone()
        };
        weights.finish()?;
        Ok(Self {
            shape,
            embedding,
            blocks,
            norm,
            head,
            frequencies,
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

    fn hidden(&self, rows: &Rows, lora: Option<&Lora>) -> Result<Tensor> {
        let attend = |_, q: &Tensor, k: &Tensor, v: &Tensor| {
            attention(q, k, v, self.shape.heads, &rows.segments)
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
        let rope = Rope::new(positions, &self.frequencies, self.shape.heads.head_dim);
        let mut x = self.embed(tokens)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let project = |x: &Tensor, target: TargetModule| {
                let weight = &block.linear[target as usize];
                lora.map_or_else(
                    || weight.forward(x, None),
                    |lora| lora.forward(weight, x, layer, target),
                )
            };
            let normed = block.attention_norm.forward(&x)?;
            let q = rope.forward(&project(&normed, TargetModule::Q)?)?;
            let k = rope.forward(&project(&normed, TargetModule::K)?)?;
            let v = project(&normed, TargetModule::V)?;
            let attended = attend(layer, &q, &k, &v)?;
            x = (x + project(&attended, TargetModule::O)?)?;
            let normed = block.feed_forward_norm.forward(&x)?;
            let gated = swiglu(
                &project(&normed, TargetModule::Gate)?,
                &project(&normed, TargetModule::Up)?,
            )?;
            x = (x + project(&gated, TargetModule::Down)?)?;
        }
        Ok(self.norm.forward(&x)?)
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
        Ok(Tensor::from_vec(
            x,
            (tokens.len(), self.shape.n_embd),
            &Device::Cpu,
        )?)
    }
}

impl Shape {
    fn read(gguf: &Gguf, architecture: &str) -> Result<Self> {
        let size = |key: &str| -> Result<usize> {
            Ok(gguf.u32(&format!("{architecture}.{key}"))? as usize)
        };
        let or = |key: &str, default: usize| match gguf.get(&format!("{architecture}.{key}")) {
            Some(_) => size(key),
            None => Ok(default),
        };
        let (n_embd, n_head) = (size("embedding_length")?, size("attention.head_count")?);
        let n_head_kv = or("attention.head_count_kv", n_head)?;
        let flaw = |reason: &str| Error::input(format_args!("{}: {reason}", gguf.path.display()));
        if n_head == 0 || n_head_kv == 0 || n_head % n_head_kv != 0 {
            return Err(flaw(&format!(
                "{n_head} heads cannot share {n_head_kv} key heads"
            )));
        }
        let head_dim = or("attention.key_length", n_embd / n_head)?;
        if head_dim == 0 || or("attention.value_length", head_dim)? != head_dim {
            return Err(flaw(
                "keys and values have different lengths, which is not supported in training",
            ));
        }
        let embedding = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| flaw("the tensor token_embd.weight is missing"))?;
        Ok(Self {
            n_layer: size("block_count")?,
            n_embd,
            n_ff: size("feed_forward_length")?,
            heads: Heads {
                n_head,
                n_head_kv,
                head_dim,
            },
            n_vocab: embedding.shape.get(1).map_or(0, |&n| n as usize),
            n_ctx: size("context_length")?,
        })
    }

    /// `(out, in)` of a linear layer.
    pub fn linear(&self, target: TargetModule) -> (usize, usize) {
        let (q, kv) = (
            self.heads.n_head * self.heads.head_dim,
            self.heads.n_head_kv * self.heads.head_dim,
        );
        match target {
            TargetModule::Q => (q, self.n_embd),
            TargetModule::K | TargetModule::V => (kv, self.n_embd),
            TargetModule::O => (self.n_embd, q),
            TargetModule::Gate | TargetModule::Up => (self.n_ff, self.n_embd),
            TargetModule::Down => (self.n_embd, self.n_ff),
        }
    }
}

/// Radians a position of each pair, `[n_rot / 2]`: `base^(−2i / n_rot)`, slowed down by the file's own factors.
fn frequencies(
    gguf: &Gguf,
    architecture: &str,
    head_dim: usize,
    weights: &mut Weights,
) -> Result<Vec<f32>> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let optional = |name: &str, default: f32| match gguf.get(&key(name)) {
        Some(_) => gguf.f32(&key(name)),
        None => Ok(default),
    };
    let n_rot = match gguf.get(&key("dimension_count")) {
        Some(_) => gguf.u32(&key("dimension_count"))? as usize,
        None => head_dim,
    };
    let factor = match gguf
        .get(&key("scaling.type"))
        .map(|_| gguf.str(&key("scaling.type")))
        .transpose()?
    {
        None | Some("none") => 1.0,
        Some("linear") => optional("scaling.factor", 1.0)?,
        Some(other) => {
            let path = gguf.path.display();
            return Err(Error::input(format_args!(
                "{path}: RoPE scaling of type '{other}' cannot be trained with"
            )));
        }
    };
    if n_rot == 0 || n_rot % 2 != 0 || n_rot > head_dim {
        let path = gguf.path.display();
        return Err(Error::input(format_args!(
            "{path}: RoPE over {n_rot} of a head's {head_dim} features"
        )));
    }
    let base = optional("freq_base", 10_000.0)?;
    let mut frequencies: Vec<f32> = (0..n_rot / 2)
        .map(|i| base.powf(-2.0 * i as f32 / n_rot as f32) / factor)
        .collect();
    if weights.contains("rope_freqs.weight") {
        let factors = weights.vector("rope_freqs.weight", n_rot / 2)?;
        frequencies
            .iter_mut()
            .zip(factors)
            .for_each(|(frequency, factor)| *frequency /= factor);
    }
    Ok(frequencies)
}
