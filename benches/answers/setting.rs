//! Settings of decoding, by name.

use std::str::FromStr;

use cope_llama::decode::{AnswerOptions, Sampling};

/// The settings that are compared unless others are named.
pub const CANDIDATES: [&str; 5] = [
    "greedy",
    "greedy+no-repeat",
    "t0.7+no-repeat",
    "t0.7",
    "t0.3+no-repeat",
];

/// The minimal relative probability of a drawn token.
const MIN_P: f32 = 0.05;

/// The length of the runs of tokens that may not come twice in an answer.
const NO_REPEAT_NGRAM: usize = 8;

/// How tokens are chosen, and what keeps an answer from loops.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    name: String,
    sampling: Sampling,
    no_repeat_ngram: usize,
    loop_guard: bool,
}

impl Setting {
    /// The setting of an answer's `options`. Options that the program itself defines for people need only a name in
    /// [`Setting::from_str`], the one place that knows names.
    fn new(name: &str, options: &AnswerOptions) -> Self {
        Self {
            name: name.to_owned(),
            sampling: options.sampling,
            no_repeat_ngram: options.no_repeat_ngram,
            loop_guard: options.loop_guard,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether all seeds give the same answer.
    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature == 0.0
    }

    /// The length of the runs of tokens that may not come twice in an answer; 0 for no such rule.
    pub fn no_repeat_ngram(&self) -> usize {
        self.no_repeat_ngram
    }

    /// The options of an answer of at most `n_predict` tokens, drawn by `seed`.
    pub fn options(&self, n_predict: usize, seed: u32) -> AnswerOptions {
        AnswerOptions {
            sampling: Sampling {
                seed,
                ..self.sampling
            },
            n_predict: Some(n_predict),
            no_repeat_ngram: self.no_repeat_ngram,
            loop_guard: self.loop_guard,
            ..AnswerOptions::default()
        }
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "recommended" {
            return Ok(Self::new(name, &AnswerOptions::recommended()));
        }
        let unknown = |part: &str| format!("{part} is no part of settings");
        let mut parts = name.split('+');
        let first = parts.next().unwrap_or_default();
        let mut options = AnswerOptions::default();
        options.sampling.top_k = 0;
        options.sampling.top_p = 1.0;
        if let Some(temperature) = first.strip_prefix('t') {
            options.sampling.temperature = temperature.parse().map_err(|_| unknown(first))?;
            options.sampling.min_p = MIN_P;
        } else if first != "greedy" {
            return Err(unknown(first));
        }
        for part in parts {
            if let Some(min_p) = part.strip_prefix("min-p") {
                options.sampling.min_p = min_p.parse().map_err(|_| unknown(part))?;
            } else if let Some(length) = part.strip_prefix("no-repeat") {
                options.no_repeat_ngram = match length {
                    "" => NO_REPEAT_NGRAM,
                    length => length.parse().map_err(|_| unknown(part))?,
                };
                options.loop_guard = true;
            } else if part == "guard" {
                options.loop_guard = true;
            } else {
                return Err(unknown(part));
            }
        }
        options
            .sampling
            .check()
            .map_err(|error| error.to_string())?;
        Ok(Self::new(name, &options))
    }
}
