//! Gates: `y = f(gate) · up`, with `f` the `SiLU` or the GELU in the feed-forward layers (Shazeer 2020), and the sigmoid
//! after attention.
//!
//! The gradients are `d gate = dy · up · f′(gate)` and `d up = dy · f(gate)`.

use rayon::prelude::*;

use super::vector::{exp, tanh};

/// Values that one thread takes at a time.
const CHUNK: usize = 4096;

/// The activation function of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x σ(x)`
    Silu,
    /// `x (1 + tanh u) / 2`, `u = √(2/π) (x + 0.044715 x³)` (Hendrycks & Gimpel 2016): the approximation of GELU that
    /// the models were trained with.
    Gelu,
    /// `σ(x)`, the logistic function.
    Sigmoid,
}

/// `f(x)`, element by element.
pub fn activated(x: &[f32], activation: Activation) -> Vec<f32> {
    gated(x, &vec![1.0; x.len()], activation)
}

/// Replaces `dy` by the gradient of `x`, from that of [`activated`].
pub fn activated_backward(x: &[f32], dy: &mut [f32], activation: Activation) {
    let (mut dx, mut ones) = (x.to_vec(), vec![1.0; x.len()]);
    gated_backward(&mut dx, &mut ones, dy, activation);
    dy.copy_from_slice(&dx);
}

/// `f(gate) · up`, element by element.
pub fn gated(gate: &[f32], up: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = gate.to_vec();
    y.par_chunks_mut(CHUNK)
        .zip(up.par_chunks(CHUNK))
        .for_each(|(gate, up)| match activation {
            Activation::Silu => apply(gate, up, silu),
            Activation::Gelu => apply(gate, up, gelu),
            Activation::Sigmoid => apply(gate, up, sigmoid),
        });
    y
}

/// Replaces `gate` and `up` by their gradients, from `dy`, that of the result.
pub fn gated_backward(gate: &mut [f32], up: &mut [f32], dy: &[f32], activation: Activation) {
    gate.par_chunks_mut(CHUNK)
        .zip(up.par_chunks_mut(CHUNK))
        .zip(dy.par_chunks(CHUNK))
        .for_each(|((gate, up), dy)| match activation {
            Activation::Silu => apply_backward(gate, up, dy, silu),
            Activation::Gelu => apply_backward(gate, up, dy, gelu),
            Activation::Sigmoid => apply_backward(gate, up, dy, sigmoid),
        });
}

// The activation is a type parameter, so that each loop holds a single activation and is vectorised.

fn apply(gate: &mut [f32], up: &[f32], value_and_slope: impl Fn(f32) -> (f32, f32)) {
    gate.iter_mut()
        .zip(up)
        .for_each(|(gate, up)| *gate = value_and_slope(*gate).0 * up);
}

fn apply_backward(
    gate: &mut [f32],
    up: &mut [f32],
    dy: &[f32],
    value_and_slope: impl Fn(f32) -> (f32, f32),
) {
    for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
        let (value, slope) = value_and_slope(*gate);
        (*gate, *up) = (dy * *up * slope, dy * value);
    }
}

/// `x σ(x)`, and its derivative.
fn silu(x: f32) -> (f32, f32) {
    let s = (1.0 + exp(-x)).recip();
    (x * s, s * (1.0 + x * (1.0 - s)))
}

/// `σ(x)`, and its derivative.
fn sigmoid(x: f32) -> (f32, f32) {
    let s = (1.0 + exp(-x)).recip();
    (s, s * (1.0 - s))
}

/// The approximation of GELU in [`Activation::Gelu`], and its derivative.
fn gelu(x: f32) -> (f32, f32) {
    const CUBIC: f32 = 0.044_715;
    let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
    let u = root * x * (1.0 + CUBIC * x * x);
    let t = tanh(u);
    let slope_of_u = root * (1.0 + 3.0 * CUBIC * x * x);
    (
        0.5 * x * (1.0 + t),
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope_of_u,
    )
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    #[test]
    fn gradients_are_finite_differences() {
        for activation in [Activation::Silu, Activation::Gelu, Activation::Sigmoid] {
            let (gate, up, dy) = (values(300, 1), values(300, 2), values(300, 3));
            let (mut d_gate, mut d_up) = (gate.clone(), up.clone());
            gated_backward(&mut d_gate, &mut d_up, &dy, activation);
            assert_gradient(&gate, &dy, &d_gate, |gate| gated(gate, &up, activation));
            assert_gradient(&up, &dy, &d_up, |up| gated(&gate, up, activation));
        }
    }

    #[test]
    fn large_arguments_saturate() {
        for (x, silu_of, gelu_of) in [(100.0, 100.0, 100.0), (-100.0, 0.0, 0.0)] {
            assert!((silu(x).0 - silu_of).abs() < 1e-3 && silu(x).1.is_finite());
            assert!((gelu(x).0 - gelu_of).abs() < 1e-3 && gelu(x).1.is_finite());
        }
    }
}
