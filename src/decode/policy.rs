//! Whose voice a text is in, and the models that speak it.

use super::Contrast;
use crate::llama::{Context, Twin};

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

impl<S> Policy<'_, S> {
    /// How plausible a candidate must be. `takes_the_best` says that of a single model's candidates none but the best is
    /// of any use.
    pub(super) fn plausibility(&self, takes_the_best: bool) -> f32 {
        match self {
            Self::Cope { contrast, .. } => contrast.plausibility(),
            Self::Plain(_) if takes_the_best => 1.0,
            Self::Plain(_) => 0.0,
        }
    }

    /// The model that the text follows, for what all have in common.
    pub(super) fn leader(&self) -> &S {
        match self {
            Self::Plain(model) => model,
            Self::Cope { user, .. } => user,
        }
    }

    /// Every model, the leader first.
    pub(super) fn models(&mut self) -> impl Iterator<Item = &mut S> {
        let (leader, follower) = match self {
            Self::Plain(model) => (&mut **model, None),
            Self::Cope { base, user, .. } => (&mut **user, Some(&mut **base)),
        };
        std::iter::once(leader).chain(follower)
    }
}
