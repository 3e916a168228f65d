//! The core of a gated delta net, between its projections: from the rows of queries, keys and values and the rows of α and
//! β to the results of the gated delta rule.
//!
//! ```text
//! q, k, v = split(silu(conv(qkv)))     q̂ = q / (√dim_k ‖q‖)     k̂ = k / ‖k‖
//! g = A ∘ softplus(α + dt)             o = rule(q̂, k̂, v, g, σ(β))
//! ```
//!
//! Norms are over each head, with ε under the square root. Files hold `A` as it is here, below 0.

use super::causal_conv::CausalConv;
use super::delta_rule::{DeltaGradients, DeltaHeads, DeltaInputs};
use super::gate::{Activation, activated, activated_backward};
use super::lineage::Lineage;
use super::matrix::Into;
use super::norm::RmsNorm;

/// The core with its frozen vectors.
pub struct DeltaCore {
    conv: CausalConv,
    heads: DeltaHeads,
    /// `A`, `[n_v]`
    a: Vec<f32>,
    /// `dt`, `[n_v]`
    dt: Vec<f32>,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
}

/// The inputs of `t` rows.
#[derive(Clone, Copy)]
pub struct CoreInputs<'a> {
    /// `[t, channels]`
    pub qkv: &'a [f32],
    /// `[t, n_v]`
    pub alpha: &'a [f32],
    /// `[t, n_v]`
    pub beta: &'a [f32],
}

/// The results of a forward pass.
pub struct CoreResults {
    /// `[t, n_v · dim_v]`
    pub o: Vec<f32>,
    /// The results of the convolution, `[t, channels]`, which the backward pass needs.
    pub convolved: Vec<f32>,
    /// The state after each segment: that of the convolution, and that of the rule.
    pub states: Vec<Vec<f32>>,
}

/// The gradients of [`CoreInputs`].
pub struct CoreGradients {
    /// `[t, channels]`
    pub qkv: Vec<f32>,
    /// `[t, n_v]`
    pub alpha: Vec<f32>,
    /// `[t, n_v]`
    pub beta: Vec<f32>,
}

/// The inputs of the rule, and the queries and keys before their norms.
struct RuleValues {
    q_raw: Vec<f32>,
    k_raw: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    log_decay: Vec<f32>,
    beta: Vec<f32>,
}

impl RuleValues {
    fn inputs(&self) -> DeltaInputs<'_> {
        DeltaInputs {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            log_decay: &self.log_decay,
            beta: &self.beta,
        }
    }
}

impl DeltaCore {
    /// The core of `heads`, with the `kernel` of the convolution, `[channels, K]`, and with `A` and `dt`, `[n_v]` each.
    pub fn new(
        heads: DeltaHeads,
        kernel: &[f32],
        (a, dt): (Vec<f32>, Vec<f32>),
        epsilon: f32,
    ) -> Self {
        let dim = heads.dim_k;
        // x / √(Σx² + ε) is a norm by the mean of the squares with the weight 1 / √dim and with ε / dim.
        let norm = |factor: f32| {
            let weight = factor / (dim as f32).sqrt();
            RmsNorm::new(vec![weight; dim], epsilon / dim as f32)
        };
        Self {
            conv: CausalConv::new(kernel, channels(heads)),
            heads,
            a,
            dt,
            q_norm: norm((dim as f32).sqrt().recip()),
            k_norm: norm(1.0),
        }
    }

    /// The shape of the heads.
    pub fn heads(&self) -> DeltaHeads {
        self.heads
    }

    /// Number of values of a state.
    pub fn state_len(&self) -> usize {
        self.conv.state_len() + self.heads.state_len()
    }

    /// Runs the core. `earlier` gives the state after a row of an earlier pass.
    pub fn forward<'s>(
        &self,
        inputs: CoreInputs,
        lineage: &Lineage,
        earlier: impl Fn(usize) -> Option<&'s [f32]> + Sync,
    ) -> CoreResults {
        let of_conv = self.conv.state_len();
        let before = |row: usize| earlier(row).map(|state| &state[..of_conv]);
        let (convolved, ends) = self.conv.forward(inputs.qkv, lineage, before);
        let values = self.rule_values(&convolved, inputs);
        let before = |row: usize| earlier(row).map(|state| &state[of_conv..]);
        let (o, rule_ends) = self.heads.forward(values.inputs(), lineage, before);
        let states = ends.into_iter().zip(rule_ends);
        CoreResults {
            o,
            convolved,
            states: states.map(|(conv, rule)| [conv, rule].concat()).collect(),
        }
    }

    /// The gradients of the inputs, from `d_o`, that of the results. No row goes on from an earlier pass.
    pub fn backward(
        &self,
        inputs: CoreInputs,
        convolved: &[f32],
        lineage: &Lineage,
        d_o: &[f32],
    ) -> CoreGradients {
        let values = self.rule_values(convolved, inputs);
        let gradients = self.heads.backward(values.inputs(), lineage, d_o);
        let DeltaGradients {
            q,
            k,
            v,
            log_decay,
            beta,
        } = gradients;
        let d_normed = |norm: &RmsNorm, raw: &[f32], dy: &[f32]| {
            let mut dx = vec![0.0; raw.len()];
            norm.backward(raw, dy, Into::Set, &mut dx);
            dx
        };
        let dq = d_normed(&self.q_norm, &values.q_raw, &q);
        let dk = d_normed(&self.k_norm, &values.k_raw, &k);
        let mut d_qkv = self.joined([&dq, &dk, &v]);
        activated_backward(convolved, &mut d_qkv, Activation::Silu);

        let mut d_beta = beta;
        activated_backward(inputs.beta, &mut d_beta, Activation::Sigmoid);
        let mut d_alpha = activated(&self.shifted(inputs.alpha), Activation::Sigmoid);
        let of_head = self.a.iter().cycle().zip(&log_decay);
        let factors = d_alpha.iter_mut().zip(of_head);
        factors.for_each(|(slope, (a, d))| *slope *= a * d);
        CoreGradients {
            qkv: self.conv.backward(&d_qkv, lineage),
            alpha: d_alpha,
            beta: d_beta,
        }
    }

    fn rule_values(&self, convolved: &[f32], inputs: CoreInputs) -> RuleValues {
        let [q_raw, k_raw, v] = self.parts(&activated(convolved, Activation::Silu));
        let log_decay = self
            .shifted(inputs.alpha)
            .into_iter()
            .zip(self.a.iter().cycle());
        RuleValues {
            q: self.q_norm.forward(&q_raw),
            k: self.k_norm.forward(&k_raw),
            q_raw,
            k_raw,
            v,
            log_decay: log_decay.map(|(x, a)| a * softplus(x)).collect(),
            beta: activated(inputs.beta, Activation::Sigmoid),
        }
    }

    /// `α + dt`
    fn shifted(&self, alpha: &[f32]) -> Vec<f32> {
        let pairs = alpha.iter().zip(self.dt.iter().cycle());
        pairs.map(|(alpha, dt)| alpha + dt).collect()
    }

    /// The widths of queries, keys and values in a row.
    fn widths(&self) -> [usize; 3] {
        let DeltaHeads {
            n_k,
            n_v,
            dim_k,
            dim_v,
        } = self.heads;
        [n_k * dim_k, n_k * dim_k, n_v * dim_v]
    }

    /// Divides rows of `[t, channels]` into queries, keys and values.
    fn parts(&self, rows: &[f32]) -> [Vec<f32>; 3] {
        let mut first = 0;
        self.widths().map(|width| {
            let from = first;
            first += width;
            let rows = rows.chunks_exact(channels(self.heads));
            rows.flat_map(|row| &row[from..from + width])
                .copied()
                .collect()
        })
    }

    /// The inverse of [`Self::parts`].
    fn joined(&self, [q, k, v]: [&[f32]; 3]) -> Vec<f32> {
        let [of_q, of_k, of_v] = self.widths();
        let rows = q.chunks_exact(of_q).zip(k.chunks_exact(of_k));
        let rows = rows.zip(v.chunks_exact(of_v));
        rows.flat_map(|((q, k), v)| [q, k, v].concat()).collect()
    }
}

/// Number of channels of the convolution, which are the features of all queries, keys and values.
pub fn channels(heads: DeltaHeads) -> usize {
    2 * heads.n_k * heads.dim_k + heads.n_v * heads.dim_v
}

/// `ln(1 + eˣ)`
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::super::attention::Segment;
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    const HEADS: DeltaHeads = DeltaHeads {
        n_k: 2,
        n_v: 4,
        dim_k: 6,
        dim_v: 6,
    };

    #[test]
    fn gradients_are_finite_differences() {
        let channels = channels(HEADS);
        let a = values(4, 2).iter().map(|a| -1.5 - a).collect();
        let core = DeltaCore::new(HEADS, &values(4 * channels, 1), (a, values(4, 3)), 1e-5);
        let t = 80;
        let segments = [
            Segment {
                queries: 0..70,
                keys: vec![0..0, 0..70],
            },
            Segment {
                queries: 70..74,
                keys: vec![0..70, 70..74],
            },
            Segment {
                queries: 74..80,
                keys: vec![0..70, 74..80],
            },
        ];
        let lineage = Lineage::new(&segments);
        let given = [values(t * channels, 4), values(t * 4, 5), values(t * 4, 6)];
        let inputs = |[qkv, alpha, beta]: [&[f32]; 3]| {
            let inputs = CoreInputs { qkv, alpha, beta };
            core.forward(inputs, &lineage, |_| None)
        };
        let slices = given.each_ref().map(Vec::as_slice);
        let d_o = values(t * 24, 7);
        let convolved = inputs(slices).convolved;
        let [qkv, alpha, beta] = slices;
        let gradients = core.backward(CoreInputs { qkv, alpha, beta }, &convolved, &lineage, &d_o);
        let gradients = [gradients.qkv, gradients.alpha, gradients.beta];
        for (which, gradient) in gradients.iter().enumerate() {
            assert_gradient(slices[which], &d_o, gradient, |x| {
                let mut moved = slices;
                moved[which] = x;
                inputs(moved).o
            });
        }
    }
}
