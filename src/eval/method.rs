//! The methods that are compared. Each is a choice of adapters, of texts before the prompt, and of a contrast.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A method of the paper, a part of one, or a control.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The base model alone.
    Base,
    /// The base with items of the user's history before the prompt.
    Rag,
    /// The base with a description of the user, which the base has written, and items of the history before the prompt.
    Pag,
    /// The base with the task adapter.
    Tam,
    /// The user's adapter after SFT, on top of the task adapter.
    Oppu,
    /// The user's adapter after DPO, contrasted with the task adapter.
    Cope,
    /// The user's adapter after SFT, contrasted with the task adapter.
    ContrastOnly,
    /// The user's adapter after DPO, without contrast.
    DpoOnly,
    /// CoPe with a contrast of 0, still computed with two contexts.
    NoContrast,
    /// CoPe with another user's adapter.
    OtherUser,
    /// OPPU with items of the history before the prompt.
    OppuRag,
    /// CoPe with items of the history before the prompt.
    CopeRag,
    /// CoPe with items of the history before the prompt of the user's model, and without them before that of the base.
    CopeRagBareBase,
}

/// The adapters of the model that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodWeights {
    /// No adapter.
    Base,
    /// The task adapter.
    Task,
    /// The task adapter, and the user's adapter after SFT.
    Sft,
    /// The task adapter, and the user's adapter after DPO.
    Dpo,
    /// The task adapter, and another user's adapter after DPO.
    OthersDpo,
}

/// The texts that are put before the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augmentation {
    /// Nothing.
    Nothing,
    /// Items of the user's history.
    Items,
    /// A description of the user, and items.
    DescriptionAndItems,
}

/// How the model that answers is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// Without contrast, by one context.
    Alone,
    /// Contrasted with the base that has the task adapter.
    Contrasted,
    /// With two contexts like [`Contrasted`](Self::Contrasted), and a contrast of 0.
    ContrastOfZero,
    /// Contrasted like [`Contrasted`](Self::Contrasted), with a base that reads the prompt without texts before it.
    ContrastedWithBareBase,
}

impl Method {
    /// All methods: first those of the paper in the order of its tables, then parts and controls.
    pub const ALL: [Self; 13] = [
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
        Self::CopeRagBareBase,
    ];

    /// The methods that answer unless others are asked for, in the order of [`ALL`](Self::ALL): those of the published
    /// report, which [`CopeRagBareBase`](Self::CopeRagBareBase) is not in.
    #[must_use]
    pub fn published() -> Vec<Self> {
        let mut methods = Self::ALL.to_vec();
        methods.retain(|it| *it != Self::CopeRagBareBase);
        methods
    }

    /// The parts that make up the method.
    #[must_use]
    pub fn parts(self) -> (MethodWeights, Augmentation, Decoding) {
        use Augmentation::{DescriptionAndItems, Items, Nothing};
        use Decoding::{Alone, ContrastOfZero, Contrasted, ContrastedWithBareBase};
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
            Self::CopeRagBareBase => (MethodWeights::Dpo, Items, ContrastedWithBareBase),
        }
    }

    /// The method's name in a table.
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
            Self::CopeRagBareBase => "CoPe + RAG, base without items",
        }
    }
}
