//! The losses, as functions of the log-probabilities of a batch's response tokens.
//!
//! SFT: `L = −mean log π_user(y_t)` over all response tokens `y_t` of the batch.
//!
//! DPO (Rafailov et al. 2023, with CoPe's reward): `L = −mean log σ(r(y⁺) − r(y⁻))` over all pairs, where the reward is
//! `r(y) = β Σ_t [log π_user(y_t) − α log π_base(y_t)]`, or the same divided by the number of tokens. The base's terms
//! are constants.
//!
//! RPO (Pang et al. 2024) adds `−rpo_alpha · mean log π_user(y⁺) / |y⁺|`. With DPO alone, all that the two responses
//! have in common, such as the user's turns of phrase, may become less likely, as long as the rejected response loses
//! more.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};

/// The loss of SFT, a scalar, from the response tokens' log-probabilities, `[r]`, in nats.
///
/// # Errors
/// A tensor operation failed.
pub fn sft_loss(logprobs: &Tensor) -> Result<Tensor> {
    logprobs.mean_all()?.neg()
}

/// The log-probability of each response, which is the sum over its tokens: `[r]` → `[n_responses]`.
///
/// # Errors
/// A tensor operation failed.
pub fn response_logps(logprobs: &Tensor, responses: &[Range<usize>]) -> Result<Tensor> {
    let sums: Result<Vec<_>> = responses
        .iter()
        .map(|r| logprobs.narrow(0, r.start, r.len())?.sum_all())
        .collect();
    Tensor::stack(&sums?, 0)
}

/// The weights of the reward.
#[derive(Clone, Copy, Debug)]
pub struct RewardWeights {
    /// DPO's β.
    pub beta: f64,
    /// α: the weight of the base's log-probability.
    pub base_weight: f64,
}

impl RewardWeights {
    /// The rewards `β (logps − α base_logps) / lengths`; all are `[n]`.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub fn reward(self, logps: &Tensor, base_logps: &Tensor, lengths: &Tensor) -> Result<Tensor> {
        ((logps - (base_logps * self.base_weight)?)? * self.beta)? / lengths
    }
}

/// The loss of DPO, a scalar, from `rewards`, `[2 n]`, of the chosen and the rejected response in turn.
///
/// # Errors
/// A tensor operation failed.
pub fn dpo_loss(rewards: &Tensor) -> Result<Tensor> {
    let pairs = rewards.reshape(((), 2))?;
    let margins = (pairs.narrow(1, 0, 1)? - pairs.narrow(1, 1, 1)?)?;
    // −log σ(x) = (|x| − x) / 2 + log(1 + exp(−|x|)) overflows for no x, and its slope at 0 is −1/2 whichever slope |x|
    // is given there. The logarithm is computed in f64, since in f32 a term of exp(−17) would vanish beside the 1.
    let margins = margins.to_dtype(DType::F64)?;
    let size = margins.abs()?;
    let tail = (size.neg()?.exp()? + 1.0)?.log()?;
    let loss = (((size - margins)? / 2.0)? + tail)?.mean_all()?;
    loss.to_dtype(DType::F32)
}

/// The loss that RPO adds, a scalar: the chosen responses' negative log-likelihood in nats a token, averaged over the
/// pairs. `logps` and `n_tokens` are `[2 n]`, of the chosen and the rejected response in turn.
///
/// # Errors
/// A tensor operation failed.
pub fn chosen_loss(logps: &Tensor, n_tokens: &Tensor) -> Result<Tensor> {
    let by_token = (logps / n_tokens)?.reshape(((), 2))?;
    by_token.narrow(1, 0, 1)?.mean_all()?.neg()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn dpo_loss_and_its_gradient_are_exact_at_every_margin() {
        for margin in [-40.0f32, -1.0, 0.0, 3.0, 12.0, 20.0] {
            let rewards = Var::new(&[margin, 0.0], &Device::Cpu).unwrap();
            let loss = dpo_loss(&rewards).unwrap();
            let gradients = loss.backward().unwrap();
            let exact = f64::from(-margin).exp().ln_1p();
            let got = f64::from(loss.to_scalar::<f32>().unwrap());
            assert!((got / exact - 1.0).abs() < 1e-6, "{margin}: {got}, {exact}");
            let slope = -1.0 / (1.0 + f64::from(margin).exp());
            let got = gradients.get(&rewards).unwrap().to_vec1::<f32>().unwrap();
            assert!((f64::from(got[0]) / slope - 1.0).abs() < 1e-6);
            assert!((f64::from(got[1]) / slope + 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn the_loss_of_chosen_responses_is_averaged_by_token_then_by_pair() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let loss = chosen_loss(
            &tensor(&[-6.0, -9.0, -1.0, -5.0]),
            &tensor(&[3.0, 1.0, 1.0, 1.0]),
        );
        assert!((loss.unwrap().to_scalar::<f32>().unwrap() - 1.5).abs() < 1e-6);
    }
}
