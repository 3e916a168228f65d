//! The linear layers of a block that an adapter may change, and the tensors that hold them: each has a tensor of its own,
//! or layers with the same input have one together, which an adapter then changes as a whole.

use clap::ValueEnum;
use cope_convert::gguf::Gguf;
use serde::{Deserialize, Serialize};

use super::family::{Family, GateTensor};

/// A linear layer of a block that an adapter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TargetModule {
    /// Queries of attention.
    Q,
    /// Keys of attention.
    K,
    /// Values of attention.
    V,
    /// Output projection of attention.
    O,
    /// Gate of the feed-forward layers.
    #[value(alias = "w1")]
    Gate,
    /// Upward projection of the feed-forward layers.
    #[value(alias = "w3")]
    Up,
    /// Downward projection of the feed-forward layers.
    #[value(alias = "w2")]
    Down,
    /// Queries, keys and values of a gated delta net.
    #[value(name = "in_proj_qkv")]
    InProjQkv,
    /// Gate of a gated delta net.
    #[value(name = "in_proj_z")]
    InProjZ,
    /// Decay of a gated delta net.
    #[value(name = "in_proj_a")]
    InProjA,
    /// Strength of what a gated delta net writes.
    #[value(name = "in_proj_b")]
    InProjB,
    /// Output projection of a gated delta net.
    #[value(name = "out_proj")]
    OutProj,
    /// Input projection of a short convolution.
    #[value(name = "conv.in_proj")]
    ConvInProj,
    /// Output projection of a short convolution.
    #[value(name = "conv.out_proj")]
    ConvOutProj,
    /// Gate of a block's own input.
    #[value(name = "per_layer_input_gate")]
    PerLayerInputGate,
    /// Output projection of a block's own input.
    #[value(name = "per_layer_projection")]
    PerLayerProjection,
}

impl TargetModule {
    /// Number of target modules.
    pub const N: usize = 16;

    /// All target modules.
    pub const ALL: [Self; Self::N] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::InProjQkv,
        Self::InProjZ,
        Self::InProjA,
        Self::InProjB,
        Self::OutProj,
        Self::ConvInProj,
        Self::ConvOutProj,
        Self::PerLayerInputGate,
        Self::PerLayerProjection,
    ];

    /// The layer's name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The tensor's name in a GGUF file in which the layer has a tensor of its own.
    pub fn tensor_name(self, layer: usize) -> String {
        OWN[self as usize].name(layer)
    }
}

/// A tensor of a block that holds linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearTensor {
    /// The part of its name that is between `blk.N.` and `.weight`.
    name: &'static str,
    /// The layers, whose rows follow one another: one, or several with the same input.
    pub layers: &'static [TargetModule],
}

/// The tensors of a block in which each layer has its own, in the order of [`TargetModule::ALL`].
const OWN: [LinearTensor; TargetModule::N] = {
    use TargetModule::{
        ConvInProj, ConvOutProj, Down, Gate, InProjA, InProjB, InProjQkv, InProjZ, K, O, OutProj,
        PerLayerInputGate, PerLayerProjection, Q, Up, V,
    };
    [
        LinearTensor::new("attn_q", &[Q]),
        LinearTensor::new("attn_k", &[K]),
        LinearTensor::new("attn_v", &[V]),
        LinearTensor::new("attn_output", &[O]),
        LinearTensor::new("ffn_gate", &[Gate]),
        LinearTensor::new("ffn_up", &[Up]),
        LinearTensor::new("ffn_down", &[Down]),
        LinearTensor::new("attn_qkv", &[InProjQkv]),
        LinearTensor::new("attn_gate", &[InProjZ]),
        LinearTensor::new("ssm_alpha", &[InProjA]),
        LinearTensor::new("ssm_beta", &[InProjB]),
        LinearTensor::new("ssm_out", &[OutProj]),
        LinearTensor::new("shortconv.in_proj", &[ConvInProj]),
        LinearTensor::new("shortconv.out_proj", &[ConvOutProj]),
        LinearTensor::new("inp_gate", &[PerLayerInputGate]),
        LinearTensor::new("proj", &[PerLayerProjection]),
    ]
};

/// Queries, keys and values in one tensor, as converters can write those of every family.
const QKV: LinearTensor = LinearTensor::new(
    "attn_qkv",
    &[TargetModule::Q, TargetModule::K, TargetModule::V],
);

/// Gate and upward projection in one tensor, as some families have them.
const GATE_UP: LinearTensor = LinearTensor::new("ffn_up", &[TargetModule::Gate, TargetModule::Up]);

impl LinearTensor {
    const fn new(name: &'static str, layers: &'static [TargetModule]) -> Self {
        Self { name, layers }
    }

    /// The tensors that hold the linear layers of a file's block, which has those that `has` says, in the order of
    /// [`TargetModule::ALL`].
    pub fn of_block(
        gguf: &Gguf,
        family: &Family,
        layer: usize,
        has: impl Fn(TargetModule) -> bool,
    ) -> Vec<Self> {
        let mut fused = Vec::new();
        if family.gate == GateTensor::WithUp {
            fused.push(GATE_UP);
        }
        if gguf.tensor(&QKV.name(layer)).is_some() {
            fused.push(QKV);
        }
        let holder = |own: Self| {
            let holds = |tensor: &&Self| tensor.layers.contains(&own.layers[0]);
            fused.iter().find(holds).copied().unwrap_or(own)
        };
        let own = OWN.into_iter().filter(|own| has(own.layers[0]));
        let mut tensors: Vec<_> = own.map(holder).collect();
        tensors.dedup();
        tensors
    }

    /// The tensor's name in a GGUF file.
    pub fn name(self, layer: usize) -> String {
        format!("blk.{layer}.{}.weight", self.name)
    }

    /// The names of the layers on the command line, as an enumeration.
    pub fn layer_names(self) -> String {
        let names: Vec<_> = self.layers.iter().map(|layer| layer.name()).collect();
        names.join(", ")
    }
}
