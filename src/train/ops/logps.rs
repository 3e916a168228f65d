//! Log-probabilities of given tokens: `log p(y) = z_y − log Σ_v exp(z_v)`, `z = h Wᵀ`, for the output head `W`.
//!
//! With `d` the gradient of a row's result, `dh = d (W_y − p W)`. The factor in brackets does not depend on `d`, so the
//! forward pass computes it from the logits that it has at hand, and no logits outlive a chunk of rows.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::weight::FrozenWeight;
use super::{contiguous, map_f32};

/// Rows whose logits are in memory at a time: 12 MB at a vocabulary of 49,152.
const ROWS: usize = 64;

/// `hidden`: `[r, d]`; `head`: `[n_vocab, d]`; `targets`: `[r]` token ids. Returns log-probabilities in nats, `[r]`.
pub fn token_logprobs(hidden: &Tensor, head: &FrozenWeight, targets: Vec<u32>) -> Result<Tensor> {
    if targets
        .iter()
        .any(|&target| target as usize >= head.n_out())
    {
        bail!("a token id beyond the vocabulary of {}", head.n_out());
    }
    let with_gradient = hidden.track_op();
    let op = TokenLogprobs {
        head: head.clone(),
        targets,
        with_gradient,
        jacobian: Mutex::default(),
    };
    hidden.contiguous()?.apply_op1(op)
}

/// Replaces logits by probabilities; returns `log Σ exp`.
pub fn softmax_in_place(logits: &mut [f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|z| *z = (*z - max).exp());
    // Partial sums keep a sum over the vocabulary exact to about one part in 10⁷.
    let sum: f32 = logits
        .chunks(256)
        .map(|chunk| chunk.iter().sum::<f32>())
        .sum();
    logits.iter_mut().for_each(|p| *p /= sum);
    max + sum.ln()
}

struct TokenLogprobs {
    head: FrozenWeight,
    targets: Vec<u32>,
    with_gradient: bool,
    /// `W_y − p W`, `[r, d]`, from the forward pass to the backward.
    jacobian: Mutex<Vec<f32>>,
}

impl CustomOp1 for TokenLogprobs {
    fn name(&self) -> &'static str {
        "token-logprobs"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let hidden = contiguous(storage, layout)?;
        let (n_vocab, d) = (self.head.n_out(), self.head.n_in());
        let mut logprobs = vec![0.0; self.targets.len()];
        let mut jacobian = vec![0.0; if self.with_gradient { hidden.len() } else { 0 }];
        let mut logits = vec![0.0; ROWS.min(self.targets.len()) * n_vocab];
        for (chunk, targets) in self.targets.chunks(ROWS).enumerate() {
            let logits = &mut logits[..targets.len() * n_vocab];
            let rows = chunk * ROWS..chunk * ROWS + targets.len();
            self.head
                .apply(&hidden[rows.start * d..rows.end * d], logits);
            let out = logprobs[rows.clone()].par_iter_mut().zip(targets);
            out.zip(logits.par_chunks_mut(n_vocab))
                .for_each(|((out, &target), logits)| {
                    let chosen = logits[target as usize];
                    *out = chosen - softmax_in_place(logits);
                });
            if self.with_gradient {
                let jacobian = &mut jacobian[rows.start * d..rows.end * d];
                self.head.apply_transposed(logits, jacobian);
                for (row, &target) in jacobian.chunks_exact_mut(d).zip(targets) {
                    row.iter_mut()
                        .zip(self.head.row(target as usize))
                        .for_each(|(j, w)| *j = w - *j);
                }
            }
        }
        *self.jacobian.lock().unwrap_or_else(PoisonError::into_inner) = jacobian;
        Ok((CpuStorage::F32(logprobs), self.targets.len().into()))
    }

    fn bwd(&self, hidden: &Tensor, _: &Tensor, d_logprobs: &Tensor) -> Result<Option<Tensor>> {
        let mut dh =
            std::mem::take(&mut *self.jacobian.lock().unwrap_or_else(PoisonError::into_inner));
        if dh.len() != hidden.elem_count() {
            bail!("a second backward pass through one forward pass");
        }
        map_f32(d_logprobs, |d| {
            for (row, d) in dh.chunks_exact_mut(self.head.n_in()).zip(d) {
                row.iter_mut().for_each(|j| *j *= d);
            }
        })?;
        Ok(Some(Tensor::from_vec(dh, hidden.shape(), hidden.device())?))
    }
}
