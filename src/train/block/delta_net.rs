//! The gated delta net as a mixer: `norm(o) ∘ silu(Z n)`, with `o` the results of the gated delta rule on `QKV n`, `α = A n`
//! and `β = B n` ([`super::super::ops::delta_core`]). The norm is over each head.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::ops::delta_core::{CoreInputs, DeltaCore};
use super::super::ops::gate::{Activation, gated, gated_backward};
use super::super::ops::lineage::Lineage;
use super::super::ops::matrix::Into;
use super::super::ops::norm::RmsNorm;
use super::branch::Layers;
use super::projection::{BackwardPass, ForwardPass, Projection};

/// A gated delta net before its output projection.
pub struct DeltaNet {
    pub qkv: Projection,
    pub z: Projection,
    pub alpha: Projection,
    pub beta: Projection,
    pub core: Arc<DeltaCore>,
    pub norm: RmsNorm,
}

/// The values of a gated delta net's forward pass.
pub struct KeptDeltaNet {
    qkv: Vec<f32>,
    z: Vec<f32>,
    alpha: Vec<f32>,
    beta: Vec<f32>,
    convolved: Vec<f32>,
    o: Vec<f32>,
}

impl KeptDeltaNet {
    fn inputs(&self) -> CoreInputs<'_> {
        CoreInputs {
            qkv: &self.qkv,
            alpha: &self.alpha,
            beta: &self.beta,
        }
    }
}

impl Layers for DeltaNet {
    type Kept = KeptDeltaNet;

    fn forward(&self, n: &[f32], pass: &mut ForwardPass) -> KeptDeltaNet {
        let mut kept = KeptDeltaNet {
            qkv: pass.apply(&self.qkv, n),
            z: pass.apply(&self.z, n),
            alpha: pass.apply(&self.alpha, n),
            beta: pass.apply(&self.beta, n),
            convolved: Vec::new(),
            o: Vec::new(),
        };
        let lineage = Lineage::new(pass.view.mask.segments);
        let recall = pass.recall.as_ref();
        let results = (self.core).forward(kept.inputs(), &lineage, |row| recall?.state(row));
        if let Some(recall) = &mut pass.recall {
            recall.keep_states(&lineage, results.states);
        }
        // The backward pass needs the results of the convolution alone.
        kept.qkv = Vec::new();
        (kept.o, kept.convolved) = (results.o, results.convolved);
        kept
    }

    fn result<'k>(&self, kept: &'k KeptDeltaNet) -> Cow<'k, [f32]> {
        Cow::Owned(gated(
            &kept.z,
            &self.norm.forward(&kept.o),
            Activation::Silu,
        ))
    }

    fn backward(
        &self,
        n: &[f32],
        mut kept: KeptDeltaNet,
        d_result: &[f32],
        pass: &mut BackwardPass,
    ) -> Vec<f32> {
        let (mut dz, mut d_normed) = (std::mem::take(&mut kept.z), self.norm.forward(&kept.o));
        gated_backward(&mut dz, &mut d_normed, d_result, Activation::Silu);
        let mut d_o = vec![0.0; kept.o.len()];
        self.norm.backward(&kept.o, &d_normed, Into::Set, &mut d_o);
        let lineage = Lineage::new(pass.view.mask.segments);
        let core = &self.core;
        let gradients = core.backward(kept.inputs(), &kept.convolved, &lineage, &d_o);
        let mut d_n = vec![0.0; n.len()];
        pass.store(&self.qkv, n, &gradients.qkv, Into::Set, &mut d_n);
        pass.store(&self.z, n, &dz, Into::Add, &mut d_n);
        pass.store(&self.alpha, n, &gradients.alpha, Into::Add, &mut d_n);
        pass.store(&self.beta, n, &gradients.beta, Into::Add, &mut d_n);
        d_n
    }
}
