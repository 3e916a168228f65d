//! The arms, and the models that each runs.

use clap::ValueEnum;
use serde::Deserialize;

use super::Contrast;
use crate::llama::{Context, Twin};

/// The kind of an arm: one of the three ways to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ArmKind {
    /// The base model alone
    Base,
    /// The user's model alone
    User,
    /// The user's model contrasted with the base
    Cope,
}

impl ArmKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Base, Self::User, Self::Cope];

    /// The arm of this kind; only CoPe uses `contrast`.
    #[must_use]
    pub fn with(self, contrast: Contrast) -> Arm {
        match self {
            Self::Base => Arm::Base,
            Self::User => Arm::User,
            Self::Cope => Arm::Cope(contrast),
        }
    }

    /// The name that people read.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::User => "user model",
            Self::Cope => "CoPe",
        }
    }
}

/// One of the three arms, ready to decode: an [`ArmKind`], with CoPe's contrast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arm {
    /// The base model alone.
    Base,
    /// The user's model alone.
    User,
    /// The user's model contrasted with the base.
    Cope(Contrast),
}

/// The models that an [`Arm`] runs, and how their logits become candidates. `M` stands for a model: a mutable borrow of
/// one, or its number among several.
#[derive(Debug, Clone, Copy)]
pub enum Policy<M> {
    /// One model; every possible token is a candidate.
    Plain(M),
    /// Two models over one vocabulary.
    Cope {
        /// The model whose logits are subtracted.
        base: M,
        /// The model whose plausible tokens are the candidates.
        user: M,
        /// α and τ.
        contrast: Contrast,
    },
}

impl Twin {
    /// The models of `arm`.
    pub fn policy(&mut self, arm: Arm) -> Policy<&mut Context> {
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

impl<M> Policy<M> {
    /// The least probability of a candidate, relative to the likeliest token: τ of a contrast. A single model without a
    /// contrast has 0, or 1 if the sampler always `takes_the_best`, so that the other candidates are left out.
    pub(super) fn plausibility(&self, takes_the_best: bool) -> f32 {
        match self {
            Self::Cope { contrast, .. } => contrast.plausibility(),
            Self::Plain(_) if takes_the_best => 1.0,
            Self::Plain(_) => 0.0,
        }
    }

    /// The model whose plausible tokens are the candidates.
    pub(super) fn leader(&self) -> &M {
        match self {
            Self::Plain(model) => model,
            Self::Cope { user, .. } => user,
        }
    }

    /// Every model, the leader first.
    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = &mut M> {
        let (leader, follower) = match self {
            Self::Plain(model) => (model, None),
            Self::Cope { base, user, .. } => (user, Some(base)),
        };
        std::iter::once(leader).chain(follower)
    }

    /// Every model, the leader first.
    pub(super) fn each(&self) -> impl Iterator<Item = &M> {
        let (leader, follower) = match self {
            Self::Plain(model) => (model, None),
            Self::Cope { base, user, .. } => (user, Some(base)),
        };
        std::iter::once(leader).chain(follower)
    }

    /// The same policy without a base whose logits would be subtracted 0 times. What is plausible has to be known before
    /// ([`plausibility`](Self::plausibility)).
    pub(super) fn without_idle_base(self) -> Self {
        match self {
            Self::Cope { user, contrast, .. } if contrast.contrast() == 0.0 => Self::Plain(user),
            policy => policy,
        }
    }

    /// The same policy with each model replaced by `f` of it.
    pub(super) fn map<N>(self, mut f: impl FnMut(M) -> N) -> Policy<N> {
        match self {
            Self::Plain(model) => Policy::Plain(f(model)),
            Self::Cope {
                base,
                user,
                contrast,
            } => Policy::Cope {
                base: f(base),
                user: f(user),
                contrast,
            },
        }
    }
}
