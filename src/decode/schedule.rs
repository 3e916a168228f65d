//! Which passes are run for a token. There is one schedule so far, the plain one, which stays as the oracle for faster
//! ones: every model of the policy runs over every token.

use super::{Contrast, LogitSource, contrast};
use crate::llama::{Candidate, Context, Token, Twin};
use crate::{Error, Result};

/// Whose voice a text is in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arm {
    /// The base model's.
    Base,
    /// The user model's.
    User,
    /// The user model's, contrasted with the base's.
    Cope(Contrast),
}

/// The models that an [`Arm`] runs, and how their logits become candidates.
#[derive(Debug)]
pub enum Policy<'a, S> {
    /// One model; every possible token is a candidate.
    Plain(&'a mut S),
    /// Two models over one vocabulary.
    Cope {
        /// What is contrasted with.
        base: &'a mut S,
        /// What is plausible.
        user: &'a mut S,
        /// By how much.
        contrast: Contrast,
    },
}

impl Twin {
    /// The models of `arm`.
    pub fn policy(&mut self, arm: Arm) -> Policy<'_, Context> {
        match arm {
            Arm::Base => Policy::Plain(&mut self.base),
            Arm::User => Policy::Plain(&mut self.user),
            Arm::Cope(contrast) => Policy::Cope {
                base: &mut self.base,
                user: &mut self.user,
                contrast,
            },
        }
    }
}

impl<S: LogitSource> Policy<'_, S> {
    /// Runs `operation` on every model. Passes are all started before any logits are read, so that devices that
    /// compute by themselves do so at the same time.
    fn each<T>(&mut self, mut operation: impl FnMut(&mut S) -> Result<T>) -> Result<()> {
        match self {
            Self::Plain(model) => operation(model).map(drop),
            Self::Cope { base, user, .. } => {
                operation(base)?;
                operation(user).map(drop)
            }
        }
    }

    /// The model that the text follows, for what all have in common.
    fn leader(&self) -> &S {
        match self {
            Self::Plain(model) => model,
            Self::Cope { user, .. } => user,
        }
    }

    /// Size of the vocabulary.
    pub(super) fn n_vocab(&self) -> usize {
        self.leader().n_vocab()
    }

    /// Room for tokens.
    pub(super) fn n_ctx(&self) -> usize {
        self.leader().n_ctx()
    }

    /// Brings every model to the end of `prompt`, reusing what its cache has of it: a chat's next turn costs only what
    /// is new.
    pub(super) fn prefill(&mut self, prompt: &[Token]) -> Result<()> {
        self.each(|model| {
            let shared = model
                .tokens()
                .iter()
                .zip(prompt)
                .take_while(|(x, y)| x == y)
                .count();
            // The last token is run again if need be, for its logits.
            model.truncate(shared.min(prompt.len() - 1));
            let cached = model.tokens().len();
            model.extend(&prompt[cached..])
        })
    }

    /// Runs `token` through every model.
    pub(super) fn extend(&mut self, token: Token) -> Result<()> {
        self.each(|model| model.extend(&[token]))
    }

    /// The candidates after the last token; see [`Contrast::score`].
    pub(super) fn candidates(&self, candidates: &mut Vec<Candidate>) -> Result<()> {
        match self {
            Self::Plain(model) => contrast::head(model.logits(), 0.0, candidates),
            Self::Cope {
                base,
                user,
                contrast,
            } => contrast.score(user.logits(), base.logits(), candidates),
        }
    }

    /// Whether there is no room for another token.
    pub(super) fn is_full(&self) -> bool {
        self.leader().tokens().len() >= self.n_ctx()
    }

    /// Makes room in every model alike: keeps the first `n_keep` tokens (at most half the context) and discards half
    /// of the others. Gives how many were discarded; `None` if these models cannot forget.
    pub(super) fn shift(&mut self, n_keep: usize) -> Result<Option<usize>> {
        if !self.leader().can_shift() {
            return Ok(None);
        }
        let len = self.leader().tokens().len();
        let keep = n_keep.min(len / 2);
        let discard = (len - keep).div_ceil(2);
        self.each(|model| {
            if model.tokens().len() != len {
                return Err(Error::input(
                    "the base and the user context have fallen out of step",
                ));
            }
            model.shift(keep, discard);
            Ok(())
        })?;
        Ok(Some(discard))
    }
}
