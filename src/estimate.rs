//! Figures with their intervals, as evaluations and calibrations record them.

use serde::{Deserialize, Serialize};

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure itself.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// A figure with the interval of a bootstrap, in which the figure lies in 95 % of the `samples`: from their 2.5th to
    /// their 97.5th percentile.
    ///
    /// # Panics
    ///
    /// If there are no samples.
    #[must_use]
    pub fn from_samples(value: f64, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let last = (samples.len() - 1) as f64;
        let percentile = |share: f64| samples[(last * share).round() as usize];
        Self {
            value,
            low: percentile(0.025),
            high: percentile(0.975),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_leaves_a_fortieth_of_the_samples_out_at_each_end() {
        let samples = (0..=1000).rev().map(f64::from).collect();
        let estimate = Estimate::from_samples(3.0, samples);
        let expected = Estimate {
            value: 3.0,
            low: 25.0,
            high: 975.0,
        };
        assert_eq!(estimate, expected);
    }

    #[test]
    fn a_recorded_interval_is_read_and_written_as_before() {
        let text = r#"{"value":0.5,"low":0.25,"high":0.75}"#;
        let estimate: Estimate = serde_json::from_str(text).unwrap();
        let expected = Estimate {
            value: 0.5,
            low: 0.25,
            high: 0.75,
        };
        assert_eq!(estimate, expected);
        assert_eq!(serde_json::to_string(&estimate).unwrap(), text);
    }
}
