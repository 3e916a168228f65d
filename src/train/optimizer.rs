//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), as PyTorch computes it, with clipping by the global norm.
//!
//! ```text
//! θ ← θ (1 − lr λ)
//! m ← β₁ m + (1 − β₁) g       v ← β₂ v + (1 − β₂) g²
//! θ ← θ − lr m̂ / (√v̂ + ε)     m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
//! ```

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::ops::map_f32;
use crate::{Error, Result};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// A gradient for each variable, in the optimiser's order of variables.
pub type Gradients = Vec<Vec<f32>>;

/// The optimiser: variables, and the moments of each.
pub struct AdamW {
    variables: Vec<(String, Var)>,
    moments: Vec<Moments>,
    /// λ.
    weight_decay: f32,
    /// Number of updates so far.
    step: i32,
}

/// The running means of a variable's gradient and of its square.
struct Moments {
    m: Vec<f32>,
    v: Vec<f32>,
}

impl AdamW {
    /// An optimiser of `variables` with moments of zero. The names are for checkpoints and error messages.
    pub fn new(variables: Vec<(String, Var)>, weight_decay: f32) -> Self {
        let zeros = |(_, var): &(String, Var)| {
            let n = var.elem_count();
            Moments {
                m: vec![0.0; n],
                v: vec![0.0; n],
            }
        };
        let moments = variables.iter().map(zeros).collect();
        Self {
            variables,
            moments,
            weight_decay,
            step: 0,
        }
    }

    /// All values that the next updates depend on, with names: the variables and their moments.
    ///
    /// # Errors
    /// A variable could not be read.
    pub(super) fn state(&self) -> Result<Vec<(String, Vec<f32>)>> {
        let mut state = Vec::with_capacity(3 * self.variables.len());
        for ((name, var), moments) in self.variables.iter().zip(&self.moments) {
            state.push((name.clone(), map_f32(var, <[f32]>::to_vec)?));
            state.push((format!("{name}.m"), moments.m.clone()));
            state.push((format!("{name}.v"), moments.v.clone()));
        }
        Ok(state)
    }

    /// Restores the state after `step` updates; `read(name, count)` gives its values.
    ///
    /// # Errors
    /// Those of `read`. The state is then partly old and partly new.
    pub(super) fn set_state(
        &mut self,
        step: usize,
        mut read: impl FnMut(&str, usize) -> Result<Vec<f32>>,
    ) -> Result<()> {
        for ((name, var), moments) in self.variables.iter().zip(&mut self.moments) {
            let n = var.elem_count();
            var.set(&Tensor::from_vec(
                read(name, n)?,
                var.shape(),
                var.device(),
            )?)?;
            moments.m = read(&format!("{name}.m"), n)?;
            moments.v = read(&format!("{name}.v"), n)?;
        }
        self.step = step as i32;
        Ok(())
    }

    /// The gradients of the variables.
    ///
    /// # Errors
    /// A variable has no gradient: the loss does not depend on it.
    pub fn gradients(&self, store: &GradStore) -> Result<Gradients> {
        self.variables
            .iter()
            .map(|(name, var)| gradient(store, name, var))
            .collect()
    }

    /// The values of the variables.
    ///
    /// # Errors
    /// A variable could not be read.
    pub(super) fn values(&self) -> Result<Vec<Vec<f32>>> {
        let value = |(_, var): &(String, Var)| Ok(map_f32(var, <[f32]>::to_vec)?);
        self.variables.iter().map(value).collect()
    }

    /// Sets the values of the variables.
    ///
    /// # Errors
    /// A variable could not be set.
    pub(super) fn set_values(&mut self, values: Vec<Vec<f32>>) -> Result<()> {
        for ((_, var), values) in self.variables.iter().zip(values) {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(())
    }

    /// Makes one update. Returns the Euclidean norm of all gradients together, before they are scaled down to
    /// `max_grad_norm`.
    ///
    /// # Errors
    /// A gradient is not finite; the variables are then unchanged.
    pub fn update(
        &mut self,
        gradients: Gradients,
        learning_rate: f32,
        max_grad_norm: f32,
    ) -> Result<f64> {
        let squares = gradients
            .iter()
            .flatten()
            .map(|&g| f64::from(g) * f64::from(g));
        let norm = squares.sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(Error::Train(
                "the gradient is not finite; a smaller learning rate may help".into(),
            ));
        }
        let clip = (f64::from(max_grad_norm) / (norm + 1e-6)).min(1.0) as f32;
        self.step += 1;
        let (correction1, correction2) = (1.0 - BETA1.powi(self.step), 1.0 - BETA2.powi(self.step));
        let decay = 1.0 - learning_rate * self.weight_decay;
        for (((_, var), moments), gradient) in
            self.variables.iter().zip(&mut self.moments).zip(gradients)
        {
            let mut theta = map_f32(var, <[f32]>::to_vec)?;
            let states = theta
                .iter_mut()
                .zip(&mut moments.m)
                .zip(&mut moments.v)
                .zip(gradient);
            for (((theta, m), v), g) in states {
                let g = g * clip;
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                let (m_hat, v_hat) = (*m / correction1, *v / correction2);
                *theta = *theta * decay - learning_rate * m_hat / (v_hat.sqrt() + EPSILON);
            }
            var.set(&Tensor::from_vec(theta, var.shape(), var.device())?)?;
        }
        Ok(norm)
    }
}

fn gradient(gradients: &GradStore, name: &str, var: &Var) -> Result<Vec<f32>> {
    let gradient = gradients
        .get(var)
        .ok_or_else(|| Error::Train(format!("the loss does not depend on {name}")))?;
    Ok(map_f32(gradient, <[f32]>::to_vec)?)
}
