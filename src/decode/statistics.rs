//! The cost of a text in passes, tokens and time.

use std::fmt;
use std::time::Duration;

/// The passes of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passes {
    /// The number of passes.
    pub n_passes: usize,
    /// The number of tokens that the passes read.
    pub n_tokens: usize,
    /// How often tokens that were read ahead were removed from the cache again.
    pub n_rollbacks: usize,
    /// The time of the passes. The times of two models that run side by side overlap.
    pub time: Duration,
}

/// The cost of a text so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens chosen, an end of turn included.
    pub n_chosen: usize,
    /// Time until the first token was chosen.
    pub prompt_time: Duration,
    /// Time for all other tokens.
    pub time: Duration,
    /// The passes of the leader: the user's model, or the only one.
    pub user: Passes,
    /// The passes of the base of a contrast.
    pub base: Passes,
    /// Choices that needed the base, since `V_head` had more than one token.
    pub n_undecided: usize,
    /// Choices that are not the user model's likeliest token.
    pub n_changed: usize,
    /// Tokens of drafts that were read.
    pub n_drafted: usize,
    /// Tokens of drafts that were chosen.
    pub n_draft_accepted: usize,
    /// Tokens that the user's model guessed and read before the base was asked.
    pub n_guessed: usize,
    /// Guessed tokens that were chosen.
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
