//! The end of the model: the last norm and the output head, which turn hidden states into logits, and the
//! log-probabilities of given tokens.
//!
//! For a row `x` and a token `y`, with `h = norm(x)` and logits `z = cap(s · W h)`: `log p(y) = z_y − log Σ_v exp(z_v)`.
//! The gradient is `dh = d · s (cap′_y W_y − (p ∘ cap′) W)`, where `d` is the gradient of `log p(y)` and `p` the softmax
//! of `z`. The factor after `d` does not depend on it, so the forward pass computes it while it has the logits, and
//! never holds the logits of more than [`ROWS`] rows. Most models have no cap, and `s = 1`.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::ops::linear::FrozenWeight;
use super::ops::matrix::Into;
use super::ops::norm::RmsNorm;
use super::ops::soft_cap::SoftCap;
use super::ops::vector::softmax;
use super::ops::{contiguous, map_f32};

/// Rows whose logits are in memory at a time: 12 MiB at a vocabulary of 49,152.
pub(super) const ROWS: usize = 64;

/// The last norm and the output head.
pub struct Head {
    /// The last norm.
    pub norm: RmsNorm,
    /// The output head, frozen, `[n_vocab, n_embd]`.
    pub weight: FrozenWeight,
    /// Turns its results into logits; `None` where they are the logits.
    pub scaling: Option<LogitScaling>,
}

/// How logits are made of the results of the output head.
#[derive(Clone, Copy, Debug)]
pub struct LogitScaling {
    /// Factor of the results.
    pub scale: f32,
    /// Soft cap of the scaled results.
    pub soft_cap: Option<SoftCap>,
}

impl LogitScaling {
    /// Replaces the results of the head by logits.
    fn forward(self, logits: &mut [f32]) {
        logits.iter_mut().for_each(|z| *z *= self.scale);
        if let Some(cap) = self.soft_cap {
            cap.forward(logits);
        }
    }
}

/// Tokens to score, and the row that predicts each of them; both `[r]`.
#[derive(Clone, Default)]
pub struct Predictions {
    /// Indices of the rows that predict the tokens.
    pub predictors: Vec<u32>,
    /// Ids of the tokens.
    pub targets: Vec<u32>,
}

impl Head {
    /// The unnormalised logits, `[r, n_vocab]`, of rows `x`, `[r, n_embd]`.
    pub fn logits(&self, x: &[f32]) -> Vec<f32> {
        let mut logits = vec![0.0; x.len() / self.weight.n_in() * self.weight.n_out()];
        self.forward(&self.norm.forward(x), &mut logits);
        logits
    }

    /// Stores the logits of the normalised rows `hidden`, `[r, n_embd]`, in `logits`, `[r, n_vocab]`.
    fn forward(&self, hidden: &[f32], logits: &mut [f32]) {
        self.weight.forward(hidden, None, Into::Set, logits);
        if let Some(scaling) = self.scaling {
            let rows = logits.par_chunks_mut(self.weight.n_out());
            rows.for_each(|row| scaling.forward(row));
        }
    }

    /// Log-probabilities of the tokens, `[r]`, in nats, from rows `x`, `[t, n_embd]`.
    ///
    /// # Errors
    /// A token id is beyond the vocabulary.
    pub fn logprobs(&self, x: &[f32], predictions: &Predictions) -> Result<Vec<f32>> {
        Ok(self.logprobs_and_jacobian(x, predictions, false)?.0)
    }

    /// The log-probabilities, `[r]`, and the Jacobian's rows `s (cap′_y W_y − (p ∘ cap′) W)`, `[r, n_embd]`, which are
    /// computed only `with_jacobian`.
    fn logprobs_and_jacobian(
        &self,
        x: &[f32],
        predictions: &Predictions,
        with_jacobian: bool,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let (n_vocab, d) = (self.weight.n_out(), self.weight.n_in());
        let targets = &predictions.targets;
        if targets.iter().any(|&target| target as usize >= n_vocab) {
            bail!("a token id is beyond the vocabulary of {n_vocab} tokens");
        }
        let mut logprobs = vec![0.0; targets.len()];
        let mut jacobian = vec![0.0; if with_jacobian { targets.len() * d } else { 0 }];
        let mut logits = vec![0.0; ROWS.min(targets.len()) * n_vocab];
        for first in (0..targets.len()).step_by(ROWS) {
            let rows = first..targets.len().min(first + ROWS);
            let targets = &targets[rows.clone()];
            let logits = &mut logits[..targets.len() * n_vocab];
            let hidden = self
                .norm
                .forward(&gather(x, &predictions.predictors[rows.clone()], d));
            self.forward(&hidden, logits);
            let soft_cap = self.scaling.and_then(|scaling| scaling.soft_cap);
            // The slopes are for the Jacobian alone.
            let soft_cap = soft_cap.filter(|_| with_jacobian);
            let mut target_slopes = vec![1.0; targets.len()];
            let out = logprobs[rows.clone()].par_iter_mut().zip(targets);
            out.zip(&mut target_slopes)
                .zip(logits.par_chunks_mut(n_vocab))
                .for_each(|(((out, &target), target_slope), logits)| {
                    let slopes = soft_cap.map(|cap| cap.slopes(logits));
                    let chosen = logits[target as usize];
                    *out = chosen - softmax(logits);
                    // The logits are now probabilities.
                    if let Some(slopes) = slopes {
                        *target_slope = slopes[target as usize];
                        logits
                            .iter_mut()
                            .zip(slopes)
                            .for_each(|(p, slope)| *p *= slope);
                    }
                });
            if with_jacobian {
                let jacobian = &mut jacobian[rows.start * d..rows.end * d];
                self.weight.backward(logits, None, Into::Set, jacobian);
                let scale = self.scaling.map_or(1.0, |scaling| scaling.scale);
                let jacobian = jacobian.chunks_exact_mut(d);
                for ((row, &target), slope) in jacobian.zip(targets).zip(target_slopes) {
                    row.iter_mut()
                        .zip(self.weight.row(target as usize))
                        .for_each(|(j, w)| *j = scale * (slope * w - *j));
                }
            }
        }
        Ok((logprobs, jacobian))
    }
}

/// Copies the rows with these indices from `x`, `[t, d]`.
pub fn gather(x: &[f32], rows: &[u32], d: usize) -> Vec<f32> {
    rows.iter()
        .flat_map(|&row| &x[row as usize * d..(row as usize + 1) * d])
        .copied()
        .collect()
}

/// [`Head::logprobs`] as an operation of candle's graph, with a gradient for `x`.
pub struct HeadOp {
    head: Arc<Head>,
    predictions: Predictions,
    /// The Jacobian's rows, which the forward pass leaves for the backward pass.
    jacobian: Mutex<Vec<f32>>,
}

impl HeadOp {
    /// `x`: `[t, n_embd]`; the result `[r]`.
    ///
    /// # Errors
    /// A token is beyond the vocabulary.
    pub fn apply(head: &Arc<Head>, x: &Tensor, predictions: Predictions) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Self {
            head: Arc::clone(head),
            predictions,
            jacobian: Mutex::default(),
        })
    }
}

impl CustomOp1 for HeadOp {
    fn name(&self) -> &'static str {
        "head"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(storage, layout)?;
        let (logprobs, jacobian) = self
            .head
            .logprobs_and_jacobian(x, &self.predictions, true)?;
        *self.jacobian.lock().unwrap_or_else(PoisonError::into_inner) = jacobian;
        let n = logprobs.len();
        Ok((CpuStorage::F32(logprobs), n.into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, d_logprobs: &Tensor) -> Result<Option<Tensor>> {
        let mut dh =
            std::mem::take(&mut *self.jacobian.lock().unwrap_or_else(PoisonError::into_inner));
        let d = self.head.weight.n_in();
        let predictors = &self.predictions.predictors;
        if dh.len() != predictors.len() * d {
            bail!("the backward pass of this forward pass has already run");
        }
        map_f32(d_logprobs, |d_logprobs| {
            for (row, d) in dh.chunks_exact_mut(d).zip(d_logprobs) {
                row.iter_mut().for_each(|j| *j *= d);
            }
        })?;
        let mut dx = vec![0.0; x.elem_count()];
        map_f32(x, |x| {
            let rows = gather(x, predictors, d);
            let mut d_rows = vec![0.0; rows.len()];
            self.head.norm.backward(&rows, &dh, Into::Set, &mut d_rows);
            // Several tokens may be predicted by one row: the first tokens of responses that share a prompt.
            for (&row, d_row) in predictors.iter().zip(d_rows.chunks_exact(d)) {
                let dx = &mut dx[row as usize * d..(row as usize + 1) * d];
                Into::Add.store(dx, d_row.iter().copied());
            }
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::ops::finite_differences::{assert_gradient, values};
    use super::super::ops::linear::WeightType;
    use super::super::ops::stored::Stored;
    use super::*;

    #[test]
    fn gradients_are_finite_differences() {
        let capped = LogitScaling {
            scale: 0.6,
            soft_cap: Some(SoftCap(0.8)),
        };
        [None, Some(capped)].into_iter().for_each(check);
    }

    fn check(scaling: Option<LogitScaling>) {
        let (t, d, n_vocab) = (5, 8, 11);
        let stored = Stored::from_values(&values(n_vocab * d, 1), n_vocab, d);
        let head = Arc::new(Head {
            norm: RmsNorm::new(values(d, 2), 1e-5),
            weight: FrozenWeight::new(stored, WeightType::F32),
            scaling,
        });
        // Two tokens that are predicted by the same row, and rows that predict nothing.
        let predictions = Predictions {
            predictors: vec![0, 3, 3, 4],
            targets: vec![2, 10, 0, 7],
        };
        let (x, dy) = (values(t * d, 3), values(predictions.targets.len(), 4));
        let variable = Var::from_slice(&x, (t, d), &Device::Cpu).unwrap();
        let y = HeadOp::apply(&head, &variable, predictions.clone()).unwrap();
        let weighted = (&y * Tensor::new(dy.as_slice(), &Device::Cpu).unwrap()).unwrap();
        let gradients = weighted.sum_all().unwrap().backward().unwrap();
        let dx = map_f32(gradients.get(&variable).unwrap(), <[f32]>::to_vec).unwrap();
        let forward = |x: &[f32]| head.logprobs(x, &predictions).unwrap();
        assert_gradient(&x, &dy, &dx, forward);
        assert_eq!(y.to_vec1::<f32>().unwrap(), forward(&x));

        // The value is the logarithm of the softmax of the logits.
        let logits = head.logits(&gather(&x, &predictions.predictors, d));
        assert!(scaling.is_none() || logits.iter().all(|z| z.abs() <= 0.8));
        let targets = predictions.targets.iter();
        for ((row, &target), logprob) in logits.chunks(n_vocab).zip(targets).zip(forward(&x)) {
            let log_z = row.iter().map(|z| z.exp()).sum::<f32>().ln();
            assert!((row[target as usize] - log_z - logprob).abs() < 1e-5);
        }
    }
}
