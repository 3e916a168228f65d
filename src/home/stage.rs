//! The stages of training.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A stage of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Supervised fine-tuning (SFT) on the user's texts.
    Sft,
    /// Mining: sampling responses and choosing pairs for DPO.
    Mine,
    /// Direct preference optimisation (DPO) on the pairs.
    Dpo,
    /// Calibration: choosing the adapter's scale and the contrast.
    Calibrate,
}

impl Stage {
    /// All stages, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Sft, Self::Mine, Self::Dpo, Self::Calibrate];

    /// The stage's name in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Mine => "mine",
            Self::Dpo => "dpo",
            Self::Calibrate => "calibrate",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
