//! The mixers: the layers of a block that bring together the rows of a sequence.

use std::borrow::Cow;
use std::sync::Arc;

use super::attention::{Attention, KeptAttention};
use super::branch::Layers;
use super::delta_net::{DeltaNet, KeptDeltaNet};
use super::key_values::KeysAndValues;
use super::projection::{BackwardPass, ForwardPass};
use super::short_conv::{KeptShortConv, ShortConv};

/// The mixer of a block.
pub enum Mixer {
    Attention(Attention),
    ShortConv(ShortConv),
    DeltaNet(DeltaNet),
}

/// The values of a mixer's forward pass.
pub enum KeptMixer {
    Attention(KeptAttention),
    ShortConv(KeptShortConv),
    DeltaNet(KeptDeltaNet),
}

impl KeptMixer {
    /// The rows' keys and values, of attention.
    pub fn keys(&self) -> Option<&Arc<KeysAndValues>> {
        match self {
            Self::Attention(kept) => Some(kept.keys()),
            Self::ShortConv(_) | Self::DeltaNet(_) => None,
        }
    }
}

impl Layers for Mixer {
    type Kept = KeptMixer;

    fn forward(&self, n: &[f32], pass: &mut ForwardPass) -> KeptMixer {
        match self {
            Self::Attention(mixer) => KeptMixer::Attention(mixer.forward(n, pass)),
            Self::ShortConv(mixer) => KeptMixer::ShortConv(mixer.forward(n, pass)),
            Self::DeltaNet(mixer) => KeptMixer::DeltaNet(mixer.forward(n, pass)),
        }
    }

    fn result<'k>(&self, kept: &'k KeptMixer) -> Cow<'k, [f32]> {
        match (self, kept) {
            (Self::Attention(mixer), KeptMixer::Attention(kept)) => mixer.result(kept),
            (Self::ShortConv(mixer), KeptMixer::ShortConv(kept)) => mixer.result(kept),
            (Self::DeltaNet(mixer), KeptMixer::DeltaNet(kept)) => mixer.result(kept),
            _ => unreachable!("a mixer is given what it kept itself"),
        }
    }

    fn backward(
        &self,
        n: &[f32],
        kept: KeptMixer,
        d_result: &[f32],
        pass: &mut BackwardPass,
    ) -> Vec<f32> {
        match (self, kept) {
            (Self::Attention(mixer), KeptMixer::Attention(kept)) => {
                mixer.backward(n, kept, d_result, pass)
            }
            (Self::ShortConv(mixer), KeptMixer::ShortConv(kept)) => {
                mixer.backward(n, kept, d_result, pass)
            }
            (Self::DeltaNet(mixer), KeptMixer::DeltaNet(kept)) => {
                mixer.backward(n, kept, d_result, pass)
            }
            _ => unreachable!("a mixer is given what it kept itself"),
        }
    }
}
