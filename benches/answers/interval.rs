//! Figures over answers with their 95 % intervals. Several answers to one prompt are alike, so they count by how much they
//! differ.

use std::collections::BTreeMap;

use cope_llama::estimate::Estimate;

/// The normal distribution's 97.5th percentile.
const Z: f64 = 1.96;

/// The mean of values, each with the number of its prompt: within 1.96 standard errors, over the means of prompts.
/// `None` if there is no value.
pub fn mean(values: &[(usize, f64)]) -> Option<Estimate> {
    let spread = Spread::new(values)?;
    let half = Z * spread.variance.sqrt();
    Some(Estimate {
        value: spread.mean,
        low: spread.mean - half,
        high: spread.mean + half,
    })
}

/// The share of answers that are so, each with the number of its prompt: within Wilson's interval. `None` if there is no
/// answer.
///
/// The number of answers in Wilson's formula is the number of independent ones that would vary as the prompts' shares do: at
/// least the number of prompts, at most that of answers.
pub fn share(answers: &[(usize, bool)]) -> Option<Estimate> {
    let values: Vec<_> = answers
        .iter()
        .map(|&(prompt, is_so)| (prompt, f64::from(u8::from(is_so))))
        .collect();
    let spread = Spread::new(&values)?;
    let p = spread.mean;
    let n_answers = values.len() as f64;
    let n = if spread.variance > 0.0 {
        (p * (1.0 - p) / spread.variance).clamp(spread.n_prompts, n_answers)
    } else {
        n_answers
    };
    let (z2, scale) = (Z * Z, 1.0 / (1.0 + Z * Z / n));
    let centre = scale * (p + z2 / (2.0 * n));
    let half = scale * Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Some(Estimate {
        value: p,
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    })
}

/// The mean of values, and how much it varies from one choice of prompts to another.
struct Spread {
    mean: f64,
    /// The squared standard error of the mean.
    variance: f64,
    n_prompts: f64,
}

impl Spread {
    fn new(values: &[(usize, f64)]) -> Option<Self> {
        let mut prompts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for &(prompt, value) in values {
            prompts.entry(prompt).or_default().push(value);
        }
        let means: Vec<f64> = prompts.values().map(|values| average(values)).collect();
        let n_prompts = means.len() as f64;
        if means.is_empty() {
            return None;
        }
        let mean = average(&means);
        let squares: f64 = means.iter().map(|value| (value - mean).powi(2)).sum();
        let degrees = (n_prompts - 1.0).max(1.0);
        Some(Self {
            mean,
            variance: squares / degrees / n_prompts,
            n_prompts,
        })
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
