//! Reads and checks the settings of a PEFT adapter, `adapter_config.json`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, PeftFlaw, Result, excerpt};
use crate::file::open_regular;

/// The longest file accepted, in bytes. Real ones have a few thousand.
const MAX_BYTES: u64 = 1 << 20;

/// The settings that decide what an adapter computes. Other settings are in `others`: [`check`](Self::check) refuses
/// those of [`NEUTRAL`] that have an effect, and the rest have none.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    peft_type: String,
    pub r: u32,
    pub lora_alpha: f64,
    #[serde(default)]
    pub use_rslora: bool,
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, u32>>,
    #[serde(default)]
    alpha_pattern: Option<BTreeMap<String, f64>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Settings that can change what an adapter computes in a way that no GGUF adapter can express, each with the values,
/// as JSON, at which it has no effect.
const NEUTRAL: [(&str, &[&str]); 12] = [
    ("alora_invocation_tokens", &["null"]),
    ("bias", &["null", "\"none\""]),
    ("fan_in_fan_out", &["null", "false"]),
    ("layer_replication", &["null"]),
    ("lora_bias", &["null", "false"]),
    ("modules_to_save", &["null", "[]"]),
    ("target_parameters", &["null", "[]"]),
    ("trainable_token_indices", &["null"]),
    ("use_bdlora", &["null", "false"]),
    ("use_dora", &["null", "false"]),
    ("use_qalora", &["null", "false"]),
    // Initialisations that are not listed change the base's weights before training.
    (
        "init_lora_weights",
        &[
            "null",
            "true",
            "false",
            "\"gaussian\"",
            "\"orthogonal\"",
            "\"eva\"",
        ],
    ),
];

impl Config {
    /// Reads `path`, and makes sure that a GGUF file can express the adapter.
    pub fn read(path: &Path) -> Result<Self> {
        let refuse = |flaw| Error::Peft {
            path: path.to_owned(),
            flaw,
        };
        let (file, length) = open_regular(path, "JSON")?;
        if length > MAX_BYTES {
            return Err(refuse(PeftFlaw::ConfigLength {
                got: length,
                limit: MAX_BYTES,
            }));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", path))?;
        let config: Self = serde_json::from_slice(&bytes)
            .map_err(|reason| refuse(PeftFlaw::Config(excerpt(&reason.to_string()))))?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), PeftFlaw> {
        let refuse = |setting: &str, value: String| {
            Err(PeftFlaw::Setting {
                setting: setting.to_owned(),
                value: excerpt(&value),
            })
        };
        if self.peft_type != "LORA" {
            return refuse("peft_type", self.peft_type.clone());
        }
        for (setting, neutral) in NEUTRAL {
            let value = self
                .others
                .get(setting)
                .map_or_else(|| "null".to_owned(), Value::to_string);
            if !neutral.contains(&value.as_str()) {
                return refuse(setting, value);
            }
        }
        let mut alphas = self.alpha_pattern.iter().flatten();
        if let Some((module, alpha)) =
            alphas.find(|(_, alpha)| alpha.total_cmp(&self.lora_alpha).is_ne())
        {
            return refuse("alpha_pattern", format!("{module}: {alpha}"));
        }
        let mut ranks = self.rank_pattern.iter().flatten();
        // A GGUF adapter has one alpha, and its factor is alpha / rank: it cannot express alpha / √rank for several
        // ranks.
        if let Some((module, rank)) = ranks.find(|(_, rank)| self.use_rslora && **rank != self.r) {
            return refuse("rank_pattern with use_rslora", format!("{module}: {rank}"));
        }
        // In PEFT an alpha of 0 turns the adapter off; in a GGUF file it stands for a factor of 1.
        if !self.lora_alpha.is_finite() || self.gguf_alpha() == 0.0 || self.r == 0 {
            return refuse(
                "r and lora_alpha",
                format!("{} and {}", self.r, self.lora_alpha),
            );
        }
        Ok(())
    }

    /// The `alpha` of the same adapter in a GGUF file, in which every pair has the factor `alpha / r`.
    pub fn gguf_alpha(&self) -> f32 {
        let factor = if self.use_rslora {
            f64::from(self.r).sqrt()
        } else {
            1.0
        };
        (self.lora_alpha * factor) as f32
    }
}
