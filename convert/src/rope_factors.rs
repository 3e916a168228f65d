//! The sets of factors of the rotary frequencies that models for short and for long contexts have (`LongRoPE`; Ding et
//! al. 2024, arXiv 2402.13753), as Phi-3's.

/// One of the two sets of factors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RopeFactors {
    /// The set for contexts up to the one that the model was trained for at first.
    Short,
    /// The set for longer contexts.
    Long,
}

impl RopeFactors {
    /// The set's name in files: `short` or `long`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
        }
    }

    /// The set with this name, if there is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Short, Self::Long]
            .into_iter()
            .find(|it| it.name() == name)
    }
}
