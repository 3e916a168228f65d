//! The soft cap in candle's operations: [`super::super::ops::soft_cap`].

use candle_core::{Result, Tensor};

use super::super::ops::soft_cap::SoftCap;

/// The capped values of `x`, without a gradient.
pub fn soft_cap(x: &Tensor, SoftCap(cap): SoftCap) -> Result<Tensor> {
    let cap = f64::from(cap);
    (x / cap)?.tanh()? * cap
}

/// The derivatives `dy / dx`, from the capped values `y`.
pub fn slopes(y: &Tensor, SoftCap(cap): SoftCap) -> Result<Tensor> {
    1.0 - (y / f64::from(cap))?.sqr()?
}
