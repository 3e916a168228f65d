//! The short convolution of LFM2 as a mixer: `c ∘ conv(b ∘ x)`, where `b`, `c` and `x` are the thirds of `In n`.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::ops::causal_conv::CausalConv;
use super::super::ops::lineage::Lineage;
use super::super::ops::matrix::Into;
use super::branch::Layers;
use super::projection::{BackwardPass, ForwardPass, Projection};

/// A short convolution before its output projection.
pub struct ShortConv {
    /// `In`
    pub input: Projection,
    pub conv: Arc<CausalConv>,
}

/// The values of a short convolution's forward pass.
pub struct KeptShortConv {
    /// `[t, 3 · n_embd]`
    bcx: Vec<f32>,
    /// The results of the convolution, `[t, n_embd]`.
    convolved: Vec<f32>,
}

impl Layers for ShortConv {
    type Kept = KeptShortConv;

    fn forward(&self, n: &[f32], pass: &mut ForwardPass) -> KeptShortConv {
        let bcx = pass.apply(&self.input, n);
        let lineage = Lineage::new(pass.view.mask.segments);
        let x = self.third(&bcx, 0).zip(self.third(&bcx, 2));
        let x: Vec<f32> = x.map(|(b, x)| b * x).collect();
        let earlier = |row| pass.recall.as_ref()?.state(row);
        let (convolved, states) = self.conv.forward(&x, &lineage, earlier);
        if let Some(recall) = &mut pass.recall {
            recall.keep_states(&lineage, states);
        }
        KeptShortConv { bcx, convolved }
    }

    fn result<'k>(&self, kept: &'k KeptShortConv) -> Cow<'k, [f32]> {
        let c = self.third(&kept.bcx, 1);
        Cow::Owned(c.zip(&kept.convolved).map(|(c, y)| c * y).collect())
    }

    fn backward(
        &self,
        n: &[f32],
        kept: KeptShortConv,
        d_result: &[f32],
        pass: &mut BackwardPass,
    ) -> Vec<f32> {
        let d_conv: Vec<f32> = self
            .third(&kept.bcx, 1)
            .zip(d_result)
            .map(|(c, d)| c * d)
            .collect();
        let lineage = Lineage::new(pass.view.mask.segments);
        let dx = self.conv.backward(&d_conv, &lineage);
        let width = self.width();
        let mut d_bcx = vec![0.0; kept.bcx.len()];
        let rows = (d_bcx.chunks_exact_mut(3 * width)).zip(kept.bcx.chunks_exact(3 * width));
        for (row, (d, bcx)) in rows.enumerate() {
            for i in 0..width {
                let at = row * width + i;
                d[i] = dx[at] * bcx[2 * width + i];
                d[width + i] = d_result[at] * kept.convolved[at];
                d[2 * width + i] = dx[at] * bcx[i];
            }
        }
        let mut d_n = vec![0.0; n.len()];
        pass.store(&self.input, n, &d_bcx, Into::Set, &mut d_n);
        d_n
    }
}

impl ShortConv {
    /// Number of features of each third.
    fn width(&self) -> usize {
        self.input.weight.n_out() / 3
    }

    /// One third of each row.
    fn third<'x>(&self, bcx: &'x [f32], which: usize) -> impl Iterator<Item = &'x f32> {
        let width = self.width();
        let rows = bcx.chunks_exact(3 * width);
        rows.flat_map(move |row| &row[which * width..(which + 1) * width])
    }
}
