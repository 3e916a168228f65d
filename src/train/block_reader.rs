//! Reading the blocks of a model from its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::block::Block;
use super::block::attention::Attention;
use super::block::branch::Branch;
use super::block::delta_net::DeltaNet;
use super::block::feed_forward::FeedForward;
use super::block::key_layers::KeyLayers;
use super::block::layer_input::LayerInput;
use super::block::mixer::Mixer;
use super::block::projection::Projection;
use super::block::short_conv::ShortConv;
use super::family::{Blocks, Family, QueryNorms};
use super::lora::TargetModule;
use super::ops::causal_conv::CausalConv;
use super::ops::delta_core::{DeltaCore, channels};
use super::ops::linear::FrozenWeight;
use super::ops::norm::RmsNorm;
use super::shape::{AttentionShape, DeltaShape, KeySource, MixerShape, Shape};
use super::target::LinearTensor;
use super::weights::Weights;
use crate::{Error, Result};

/// Reads the block `layer` of a file of `family`.
///
/// # Errors
/// A tensor is missing, has another shape, or is of a type that cannot be read.
pub fn read(weights: &mut Weights, layer: usize, shape: &Shape, family: &Family) -> Result<Block> {
    let mut block = BlockReader {
        weights,
        layer,
        shape,
        linears: BTreeMap::new(),
    };
    for &tensor in &shape.linear_tensors[layer] {
        block.read_tensor(tensor)?;
    }
    let (before, after) = (family.norms.are_before(), family.norms.are_after());
    let n_embd = shape.n_embd;
    Ok(Block {
        mixer: Branch {
            norm: block.norm(before, "attn_norm", n_embd)?,
            layers: block.mixer(family)?,
            output: block.linear(shape.mixers[layer].output())?,
            post_norm: block.norm(after, "post_attention_norm", n_embd)?,
            residual_scale: shape.residual_scale,
        },
        feed_forward: Branch {
            norm: block.norm(before, family.feed_forward_norm, n_embd)?,
            layers: FeedForward {
                gate: block.linear(TargetModule::Gate)?,
                up: block.linear(TargetModule::Up)?,
                activation: family.activation,
            },
            output: block.linear(TargetModule::Down)?,
            post_norm: block.norm(after, "post_ffw_norm", n_embd)?,
            residual_scale: shape.residual_scale,
        },
        input: block.input(family)?,
        output_scale: block.output_scale(family)?,
    })
}

/// A reader of one block's tensors.
struct BlockReader<'b, 'a> {
    weights: &'b mut Weights<'a>,
    layer: usize,
    shape: &'b Shape,
    /// The linear layers that have been read and not been taken.
    linears: BTreeMap<TargetModule, FrozenWeight>,
}

impl BlockReader<'_, '_> {
    /// Reads the linear layers that a tensor holds, with their biases: those of one tensor have one bias, or each its own.
    fn read_tensor(&mut self, tensor: LinearTensor) -> Result<()> {
        let (rows, n_in) = self.shape.tensor(self.layer, tensor);
        let name = tensor.name(self.layer);
        let mut linears = self.weights.linear_layers(&name, &rows, n_in)?;
        let biases: Vec<_> = (tensor.layers.iter())
            .map(|it| it.tensor_name(self.layer).replace(".weight", ".bias"))
            .collect();
        // llama.cpp adds the biases of fused layers only if all of them are there.
        let is_fused = tensor.layers.len() > 1;
        if is_fused && biases.iter().all(|name| self.weights.contains(name)) {
            for (linear, name) in linears.iter_mut().zip(biases) {
                let bias = self.weights.vector(&name, linear.n_out())?;
                *linear = linear.clone().with_bias(bias);
            }
        }
        let layers = tensor.layers.iter().copied();
        self.linears.extend(layers.zip(linears));
        Ok(())
    }

    /// A linear layer, once.
    fn linear(&mut self, target: TargetModule) -> Result<Projection> {
        let weight = self.linears.remove(&target);
        let weight = weight.ok_or_else(|| {
            let name = target.tensor_name(self.layer);
            Error::bug(format!("there is no layer {name}"))
        })?;
        Ok(Projection { target, weight })
    }

    fn norm(&mut self, is_there: bool, name: &str, len: usize) -> Result<Option<RmsNorm>> {
        let name = format!("blk.{}.{name}.weight", self.layer);
        let vector = || self.weights.vector(&name, len);
        let weight = is_there.then(vector).transpose()?;
        Ok(weight.map(|weight| RmsNorm::new(weight, self.shape.epsilon)))
    }

    fn mixer(&mut self, family: &Family) -> Result<Mixer> {
        Ok(match self.shape.mixers[self.layer] {
            MixerShape::Attention(shape) => Mixer::Attention(self.attention(shape, family)?),
            MixerShape::ShortConv { n_taps } => Mixer::ShortConv(self.short_conv(n_taps)?),
            MixerShape::DeltaNet(shape) => Mixer::DeltaNet(self.delta_net(shape)?),
        })
    }

    fn short_conv(&mut self, n_taps: usize) -> Result<ShortConv> {
        let (n_embd, name) = (self.shape.n_embd, self.name("shortconv.conv.weight"));
        let kernel = self.weights.rows(&name, n_embd, n_taps)?;
        Ok(ShortConv {
            input: self.linear(TargetModule::ConvInProj)?,
            conv: Arc::new(CausalConv::new(&kernel, n_embd)),
        })
    }

    fn delta_net(&mut self, DeltaShape { heads, n_taps }: DeltaShape) -> Result<DeltaNet> {
        let kernel = self.name("ssm_conv1d.weight");
        let kernel = self.weights.rows(&kernel, channels(heads), n_taps)?;
        let [a, dt] = ["ssm_a", "ssm_dt.bias"].map(|name| {
            let name = self.name(name);
            self.weights.vector(&name, heads.n_v)
        });
        let norm = self.name("ssm_norm.weight");
        let norm = self.weights.vector(&norm, heads.dim_v)?;
        Ok(DeltaNet {
            qkv: self.linear(TargetModule::InProjQkv)?,
            z: self.linear(TargetModule::InProjZ)?,
            alpha: self.linear(TargetModule::InProjA)?,
            beta: self.linear(TargetModule::InProjB)?,
            core: Arc::new(DeltaCore::new(
                heads,
                &kernel,
                (a?, dt?),
                self.shape.epsilon,
            )),
            norm: RmsNorm::new(norm, self.shape.epsilon),
        })
    }

    /// The name of a tensor of this block.
    fn name(&self, name: &str) -> String {
        format!("blk.{}.{name}", self.layer)
    }

    fn attention(&mut self, shape: AttentionShape, family: &Family) -> Result<Attention> {
        let heads = shape.heads;
        let is_normed = family.query_norms != QueryNorms::Absent;
        let width = |n_heads: usize| match family.query_norms {
            QueryNorms::Width => n_heads * heads.head_dim,
            _ => heads.head_dim,
        };
        let keys = match shape.keys {
            KeySource::Earlier(_) => None,
            source => Some(KeyLayers {
                k: self.linear(TargetModule::K)?,
                v: (source == KeySource::Own)
                    .then(|| self.linear(TargetModule::V))
                    .transpose()?,
                k_norm: self.norm(is_normed, "attn_k_norm", width(heads.n_head_kv))?,
                v_norm: (family.blocks == Blocks::Varied)
                    .then(|| RmsNorm::new(vec![1.0; heads.head_dim], self.shape.epsilon)),
            }),
        };
        Ok(Attention {
            q: self.linear(TargetModule::Q)?,
            q_norm: self.norm(is_normed, "attn_q_norm", width(heads.n_head))?,
            keys,
            heads,
            has_gate: shape.has_gate,
        })
    }

    /// The branch of the block's own input, if it has one.
    fn input(&mut self, family: &Family) -> Result<Option<Branch<LayerInput>>> {
        if self.shape.n_input.is_none() {
            return Ok(None);
        }
        Ok(Some(Branch {
            norm: None,
            layers: LayerInput {
                gate: self.linear(TargetModule::PerLayerInputGate)?,
                activation: family.activation,
            },
            output: self.linear(TargetModule::PerLayerProjection)?,
            post_norm: self.norm(true, "post_norm", self.shape.n_embd)?,
            residual_scale: None,
        }))
    }

    /// The factor of the block's result, if the file has one.
    fn output_scale(&mut self, family: &Family) -> Result<Option<f32>> {
        if family.blocks == Blocks::Alike {
            return Ok(None);
        }
        let name = self.name("layer_output_scale.weight");
        let scale = self.weights.vector_if_there(&name, 1)?;
        Ok(scale.map(|scale| scale[0]))
    }
}
