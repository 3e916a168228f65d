//! Reads and checks the settings of an adapter of PEFT or MLX, `adapter_config.json`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, PeftFlaw, Result, excerpt};
use crate::file::open_regular;

use super::module_pattern::{Compiled, Pattern};

/// The longest file accepted, in bytes. Real ones have a few thousand.
const MAX_BYTES: u64 = 1 << 20;

/// Settings of PEFT that have no effect on what an adapter computes once it is trained, whatever their values are.
const PEFT_HARMLESS: [&str; 16] = [
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "merge_weights",
    "peft_version",
    // Has an effect with `use_qalora` alone.
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
];

/// The same for MLX, whose file holds all options of the training.
const MLX_HARMLESS: [&str; 32] = [
    "adapter_path",
    "batch_size",
    "clear_cache_threshold",
    "config",
    "data",
    "dropout",
    "grad_accumulation_steps",
    "grad_checkpoint",
    "hf_dataset",
    "iters",
    "keys",
    "learning_rate",
    "lora_layers",
    "lr_schedule",
    "mask_prompt",
    "max_seq_length",
    "model",
    "num_layers",
    "optimizer",
    "optimizer_config",
    "project_name",
    "report_to",
    "resume_adapter_file",
    "save_every",
    "seed",
    "steps_per_eval",
    "steps_per_report",
    "test",
    "test_batches",
    "train",
    "val_batches",
    "wandb",
];

/// Other settings, with the values, as JSON, at which they have no effect. Every setting that is in no list has none
/// where it is [unset](is_unset).
const NEUTRAL: [(&str, &[&str]); 2] = [
    ("bias", &["\"none\""]),
    // Initialisations that are not listed change the base's weights before training.
    (
        "init_lora_weights",
        &["true", "\"gaussian\"", "\"orthogonal\"", "\"eva\""],
    ),
];

/// The program that has written an adapter, and therefore the names and the orientation of its matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Peft,
    Mlx,
}

/// The settings that decide what an adapter computes.
#[derive(Debug)]
pub(super) struct Config {
    pub origin: Origin,
    rank: u32,
    lora_alpha: f64,
    use_rslora: bool,
    ranks: Compiled<u32>,
    alphas: Compiled<f64>,
}

/// The configuration that PEFT writes.
#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: u32,
    lora_alpha: f64,
    use_rslora: Option<bool>,
    rank_pattern: Option<Pattern<u32>>,
    alpha_pattern: Option<Pattern<f64>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The configuration that MLX writes.
#[derive(Deserialize)]
struct MlxConfig {
    fine_tune_type: Option<String>,
    lora_parameters: MlxParameters,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct MlxParameters {
    rank: u32,
    scale: f64,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

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
        Self::parse(&bytes).map_err(refuse)
    }

    fn parse(bytes: &[u8]) -> Result<Self, PeftFlaw> {
        let names: BTreeMap<String, Value> = json(bytes)?;
        let has = |name| names.contains_key(name);
        let config = if has("peft_type") {
            Self::of_peft(json(bytes)?)?
        } else if has("fine_tune_type") || has("lora_parameters") {
            Self::of_mlx(json(bytes)?)?
        } else {
            return Err(PeftFlaw::Kind);
        };
        // In PEFT an alpha of 0 turns the adapter off; in a GGUF file it stands for a factor of 1.
        let alpha = config.gguf_alpha();
        if !alpha.is_finite() || alpha == 0.0 || config.rank == 0 {
            let (settings, factor) = match config.origin {
                Origin::Peft => ("r and lora_alpha", config.lora_alpha),
                Origin::Mlx => ("rank and scale", config.lora_alpha / f64::from(config.rank)),
            };
            return Err(refusal(settings, &format!("{} and {factor}", config.rank)));
        }
        Ok(config)
    }

    fn of_peft(config: PeftConfig) -> Result<Self, PeftFlaw> {
        if config.peft_type != "LORA" {
            return Err(refusal("peft_type", &format!("{:?}", config.peft_type)));
        }
        check_others(&config.others, &PEFT_HARMLESS)?;
        let ranks = config.rank_pattern.unwrap_or_default().compile();
        let alphas = config.alpha_pattern.unwrap_or_default().compile();
        Ok(Self {
            origin: Origin::Peft,
            rank: config.r,
            lora_alpha: config.lora_alpha,
            use_rslora: config.use_rslora.unwrap_or_default(),
            ranks: ranks.map_err(|name| refusal("rank_pattern", &name))?,
            alphas: alphas.map_err(|name| refusal("alpha_pattern", &name))?,
        })
    }

    fn of_mlx(config: MlxConfig) -> Result<Self, PeftFlaw> {
        if let Some(other) = config.fine_tune_type.filter(|it| it != "lora") {
            return Err(refusal("fine_tune_type", &format!("{other:?}")));
        }
        let parameters = config.lora_parameters;
        check_others(&config.others, &MLX_HARMLESS)?;
        check_others(&parameters.others, &MLX_HARMLESS)?;
        Ok(Self {
            origin: Origin::Mlx,
            rank: parameters.rank,
            lora_alpha: parameters.scale * f64::from(parameters.rank),
            use_rslora: false,
            ranks: Compiled::none(),
            alphas: Compiled::none(),
        })
    }

    /// The rank of a module.
    pub fn rank(&self, module: &str) -> u32 {
        self.ranks.get(module).unwrap_or(self.rank)
    }

    /// The `alpha` of a module in a GGUF file in which it alone is adapted: there the factor is `alpha / rank`.
    pub fn alpha(&self, module: &str) -> f32 {
        let alpha = self.alphas.get(module).unwrap_or(self.lora_alpha);
        self.gguf_alpha_of(alpha, self.rank(module))
    }

    /// The `alpha` of the modules that no pattern names.
    pub fn gguf_alpha(&self) -> f32 {
        self.gguf_alpha_of(self.lora_alpha, self.rank)
    }

    fn gguf_alpha_of(&self, lora_alpha: f64, rank: u32) -> f32 {
        let factor = if self.use_rslora {
            f64::from(rank).sqrt()
        } else {
            1.0
        };
        (lora_alpha * factor) as f32
    }
}

fn json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, PeftFlaw> {
    serde_json::from_slice(bytes).map_err(|reason| PeftFlaw::Config(excerpt(&reason.to_string())))
}

fn refusal(setting: &str, value: &str) -> PeftFlaw {
    PeftFlaw::Setting {
        setting: excerpt(setting),
        value: excerpt(value),
    }
}

/// Refuses every setting that could change what the adapter computes. A setting that a later version brings is not in
/// the lists, and is refused as soon as it is set.
fn check_others(others: &BTreeMap<String, Value>, harmless: &[&str]) -> Result<(), PeftFlaw> {
    for (name, value) in others {
        let text = value.to_string();
        let is_neutral = |(neutral, values): &(&str, &[&str])| {
            neutral == name && values.contains(&text.as_str())
        };
        let is_known = harmless.contains(&name.as_str()) || NEUTRAL.iter().any(is_neutral);
        if !is_known && !is_unset(value) {
            return Err(refusal(name, &text));
        }
    }
    Ok(())
}

/// Whether a value is one that stands for a setting that is not made.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}
