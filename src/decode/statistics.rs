//! What a text has cost.

use std::fmt;
use std::time::Duration;

/// The passes of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passes {
    /// How often it has read tokens.
    pub n_passes: usize,
    /// How many it has read.
    pub n_tokens: usize,
    /// How often tokens that it had read were taken back.
    pub n_rollbacks: usize,
    /// The time in all; of two models side by side each has its own.
    pub time: Duration,
}

/// What a text has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens chosen, an end of turn included.
    pub n_chosen: usize,
    /// Until the first of them was chosen.
    pub prompt_time: Duration,
    /// For all the others.
    pub time: Duration,
    /// The passes of the model that the text follows.
    pub user: Passes,
    /// The passes of the base that it is contrasted with.
    pub base: Passes,
    /// Choices for which the base was needed: `V_head` had more than one token.
    pub n_undecided: usize,
    /// Choices against the user model's first one.
    pub n_changed: usize,
    /// Tokens of drafts that were read.
    pub n_drafted: usize,
    /// Tokens of drafts that were right.
    pub n_draft_accepted: usize,
    /// Tokens that the user model went ahead with, before the base was asked.
    pub n_guessed: usize,
    /// Those that were right.
    pub n_guess_accepted: usize,
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let each = self.n_chosen.saturating_sub(1).max(1) as f64;
        write!(
            f,
            "prompt: {} tokens in {:.0} ms; answer: {} tokens in {:.0} ms, {:.1} ms each",
            self.n_prompt,
            ms(self.prompt_time),
            self.n_chosen,
            ms(self.time),
            ms(self.time) / each
        )?;
        for (name, passes) in [("user model", self.user), ("base", self.base)] {
            if passes.n_passes > 0 {
                write!(
                    f,
                    "; {name}: {} passes over {} tokens in {:.0} ms, {} taken back",
                    passes.n_passes,
                    passes.n_tokens,
                    ms(passes.time),
                    passes.n_rollbacks
                )?;
            }
        }
        if self.base.n_passes > 0 {
            write!(
                f,
                "; the base was needed for {} of {} choices and changed {}",
                self.n_undecided, self.n_chosen, self.n_changed
            )?;
        }
        for (name, n, accepted) in [
            ("drafts", self.n_drafted, self.n_draft_accepted),
            ("guesses", self.n_guessed, self.n_guess_accepted),
        ] {
            if n > 0 {
                write!(f, "; {name}: {accepted} of {n} tokens were right")?;
            }
        }
        Ok(())
    }
}
