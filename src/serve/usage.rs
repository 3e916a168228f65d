//! Counts of a text's tokens, and how long they took.

use std::time::Duration;

/// How many tokens a text has, and how long they took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens of the prompt that came from the prefix cache.
    pub n_cached: usize,
    /// Tokens of the answer.
    pub n_completion: usize,
    /// Time from the request to the first token of the answer.
    pub prompt_time: Duration,
    /// Time from the first token of the answer to its end.
    pub completion_time: Duration,
}

/// The prompt of a text, beside those that were counted before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptCount {
    /// It answers another prompt, whose tokens count too.
    Another,
    /// It answers the same prompt once more, which counts once.
    Same,
}

impl Usage {
    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Self, prompt: PromptCount) -> Self {
        let of_prompt = |n: usize| match prompt {
            PromptCount::Another => n,
            PromptCount::Same => 0,
        };
        Self {
            n_prompt: self.n_prompt + of_prompt(other.n_prompt),
            n_cached: self.n_cached + of_prompt(other.n_cached),
            n_completion: self.n_completion + other.n_completion,
            prompt_time: self.prompt_time + other.prompt_time,
            completion_time: self.completion_time + other.completion_time,
        }
    }
}
