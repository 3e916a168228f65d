//! Reading the blocks of a model from its file.

use std::collections::BTreeMap;

use super::block::Block;
use super::block::attention::Attention;
use super::block::branch::Branch;
use super::block::feed_forward::FeedForward;
use super::block::projection::Projection;
use super::family::{Family, QueryNorms};
use super::lora::TargetModule;
use super::ops::linear::FrozenWeight;
use super::ops::norm::RmsNorm;
use super::shape::Shape;
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
            layers: block.attention(family)?,
            output: block.linear(TargetModule::O)?,
            post_norm: block.norm(after, "post_attention_norm", n_embd)?,
            residual_scale: shape.residual_scale,
        },
        feed_forward: Branch {
            norm: block.norm(before, "ffn_norm", n_embd)?,
            layers: FeedForward {
                gate: block.linear(TargetModule::Gate)?,
                up: block.linear(TargetModule::Up)?,
                activation: family.activation,
            },
            output: block.linear(TargetModule::Down)?,
            post_norm: block.norm(after, "post_ffw_norm", n_embd)?,
            residual_scale: shape.residual_scale,
        },
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

    fn attention(&mut self, family: &Family) -> Result<Attention> {
        let heads = self.shape.heads;
        let is_normed = family.query_norms != QueryNorms::Absent;
        let width = |n_heads: usize| match family.query_norms {
            QueryNorms::Width => n_heads * heads.head_dim,
            _ => heads.head_dim,
        };
        Ok(Attention {
            q: self.linear(TargetModule::Q)?,
            k: self.linear(TargetModule::K)?,
            v: self.linear(TargetModule::V)?,
            q_norm: self.norm(is_normed, "attn_q_norm", width(heads.n_head))?,
            k_norm: self.norm(is_normed, "attn_k_norm", width(heads.n_head_kv))?,
            heads,
        })
    }
}
