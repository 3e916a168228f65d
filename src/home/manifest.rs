//! What a user's adapter was trained from and how.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, Serialize};

/// `manifest.json` of a user's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The base model that the adapter belongs to.
    pub base: BaseRef,
    /// The stages that have ended.
    pub stages: BTreeMap<Stage, StageRecord>,
}

/// A base model as a manifest keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRef {
    /// The file's name in the models folder, or its absolute path elsewhere.
    pub file: String,
    /// The file's SHA-256, in hexadecimal.
    pub sha256: String,
    /// `general.architecture`.
    pub architecture: String,
    /// The SHA-256 of the task adapter on top of it, which lies in the user's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_sha256: Option<String>,
}

/// A stage of the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Supervised fine-tuning on the user's texts.
    Sft,
    /// Sampling and choosing the negatives.
    Mine,
    /// Direct preference optimisation against them.
    Dpo,
}

impl Stage {
    /// All stages, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Sft, Self::Mine, Self::Dpo];

    /// The name in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Mine => "mine",
            Self::Dpo => "dpo",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A stage that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// SHA-256 over everything that the stage's result depends on.
    pub inputs: String,
    /// The settings, with the seed.
    pub settings: serde_json::Value,
    /// The stage's figures, by name.
    #[serde(deserialize_with = "renamed")]
    pub figures: BTreeMap<String, f64>,
    /// How long it took; after a stop, since it went on.
    pub seconds: f64,
}

/// Figures by the names that they have now: those on held-out texts once began with `kept_apart/`.
fn renamed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let figures = BTreeMap::<String, f64>::deserialize(deserializer)?.into_iter();
    let renamed = figures.map(|(name, figure)| match name.strip_prefix("kept_apart/") {
        Some(rest) => (format!("held_out/{rest}"), figure),
        None => (name, figure),
    });
    Ok(renamed.collect())
}
