//! The systems that are compared: which weights answer, with what before the prompt, by which contrast.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A system of the paper, a part of it, or a control.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The base model.
    Base,
    /// With items of the user's history before the prompt.
    Rag,
    /// With a description of the user, by the base itself, and items of the history.
    Pag,
    /// The task's adapter.
    Tam,
    /// The user's adapter after SFT, on top of the task's.
    Oppu,
    /// The user's adapter after DPO, contrasted with the task's.
    Cope,
    /// The user's adapter after SFT, contrasted.
    ContrastOnly,
    /// The user's adapter after DPO, not contrasted.
    DpoOnly,
    /// CoPe through its own loop of two models, with a contrast of 0.
    NoContrast,
    /// CoPe with another user's adapter.
    OtherUser,
    /// OPPU with items of the history.
    OppuRag,
    /// CoPe with items of the history.
    CopeRag,
}

/// The adapters that a method's model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodWeights {
    /// None.
    Base,
    /// The task's.
    Task,
    /// The task's, and the user's after SFT.
    Sft,
    /// The task's, and the user's after DPO.
    Dpo,
    /// The task's, and another user's after DPO.
    OthersDpo,
}

/// What stands before the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// Items of the user's history.
    Items,
    /// A description of the user, and items.
    DescriptionAndItems,
}

/// How the user's model decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// Alone.
    Alone,
    /// Contrasted with the task's.
    Contrasted,
    /// In the loop of two models, with a contrast of 0.
    ContrastOfZero,
}

impl Method {
    /// All, in the order of the paper's tables; then the controls.
    pub const ALL: [Self; 12] = [
        Self::Base,
        Self::Rag,
        Self::Pag,
        Self::Tam,
        Self::Oppu,
        Self::Cope,
        Self::ContrastOnly,
        Self::DpoOnly,
        Self::NoContrast,
        Self::OtherUser,
        Self::OppuRag,
        Self::CopeRag,
    ];

    /// What it is made of.
    #[must_use]
    pub fn parts(self) -> (MethodWeights, Before, Decoding) {
        use Before::{DescriptionAndItems, Items, Nothing};
        use Decoding::{Alone, ContrastOfZero, Contrasted};
        match self {
            Self::Base => (MethodWeights::Base, Nothing, Alone),
            Self::Rag => (MethodWeights::Base, Items, Alone),
            Self::Pag => (MethodWeights::Base, DescriptionAndItems, Alone),
            Self::Tam => (MethodWeights::Task, Nothing, Alone),
            Self::Oppu => (MethodWeights::Sft, Nothing, Alone),
            Self::Cope => (MethodWeights::Dpo, Nothing, Contrasted),
            Self::ContrastOnly => (MethodWeights::Sft, Nothing, Contrasted),
            Self::DpoOnly => (MethodWeights::Dpo, Nothing, Alone),
            Self::NoContrast => (MethodWeights::Dpo, Nothing, ContrastOfZero),
            Self::OtherUser => (MethodWeights::OthersDpo, Nothing, Contrasted),
            Self::OppuRag => (MethodWeights::Sft, Items, Alone),
            Self::CopeRag => (MethodWeights::Dpo, Items, Contrasted),
        }
    }

    /// Its name in a table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Base => "Base",
            Self::Rag => "RAG",
            Self::Pag => "PAG",
            Self::Tam => "TAM",
            Self::Oppu => "OPPU",
            Self::Cope => "CoPe",
            Self::ContrastOnly => "contrast only",
            Self::DpoOnly => "DPO only",
            Self::NoContrast => "CoPe, α = 0",
            Self::OtherUser => "CoPe, another user's adapter",
            Self::OppuRag => "OPPU + RAG",
            Self::CopeRag => "CoPe + RAG",
        }
    }
}
