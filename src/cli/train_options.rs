//! The options that the commands which train share.

use clap::Args;
use cope_llama::train::fit::{FitConfig, LrSchedule};
use cope_llama::train::lora::TargetModule;
use cope_llama::train::{TrainConfig, TrainDevice, WeightType};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::options::{BaseArg, count};

#[derive(Args)]
pub struct TrainOptions {
    /// Seed of the initial adapter, the order of the items, and the samples
    #[arg(short, long, value_name = "N", default_value_t = TrainConfig::default().seed)]
    seed: u64,
    /// Where to compute: on a GPU in a build with its feature
    #[arg(long, value_name = "cpu|cuda|metal", default_value_t = TrainConfig::default().device)]
    device: TrainDevice,
    /// Type that the base's weights are multiplied in; quantized on the CPU alone [default: bf16 on a GPU, and where the
    /// CPU does that itself, else f32]
    #[arg(long, value_name = "f32|bf16|quantized", value_parser = weight_type)]
    weights: Option<WeightType>,
    /// Compute activations again rather than keep them, on the CPU: a third slower, less memory, the same adapter
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    pub base: BaseArg,
    #[command(flatten)]
    adapter: AdapterArgs,
    #[command(flatten)]
    fit: FitArgs,
    #[command(flatten)]
    sft: SftArgs,
}

impl TrainOptions {
    pub fn config(&self) -> TrainConfig {
        let mut config = TrainConfig {
            seed: self.seed,
            device: self.device,
            recompute: self.recompute,
            ..TrainConfig::default()
        };
        config.weight_type = self.weights.unwrap_or(self.device.fastest_weights());
        config.lora.rank = self.adapter.rank;
        config.lora.lora_alpha = self.adapter.lora_alpha;
        config
            .lora
            .target_modules
            .clone_from(&self.adapter.target_modules);
        self.fit.set(&mut config.sft);
        self.fit.set(&mut config.dpo.fit);
        config.sft.learning_rate = self.sft.learning_rate;
        config.sft.epochs = self.sft.epochs;
        config.sft.batch_size = self.sft.batch_size;
        config
    }

    /// What would take less memory, to be said after the estimate.
    pub fn smaller(&self) -> &'static str {
        match (self.weights, self.recompute) {
            (Some(WeightType::Quantized), true) => "",
            _ => "; less with --weights quantized --recompute",
        }
    }
}

#[derive(Args)]
#[command(next_help_heading = "Adapter")]
struct AdapterArgs {
    /// Rank of the adapter's matrices
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().lora.rank)]
    rank: usize,
    /// Its scale is this over the rank
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().lora.lora_alpha)]
    lora_alpha: f32,
    /// The layers of each block that it changes: q, k, v, o, gate, up, down
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = TrainConfig::default().lora.target_modules)]
    target_modules: Vec<TargetModule>,
}

#[derive(Args)]
#[command(next_help_heading = "Stages sft and dpo")]
struct FitArgs {
    /// Items that are computed at a time; a step's gradient is the sum over them [default: all of a step]
    #[arg(long, value_name = "N", value_parser = count)]
    micro_batch_size: Option<usize>,
    /// How the learning rate falls to zero
    #[arg(long, value_name = "linear|cosine", value_parser = schedule, default_value = "linear")]
    schedule: LrSchedule,
    /// Part of the steps in which it rises before
    #[arg(long, value_name = "X", value_parser = part, default_value_t = TrainConfig::default().sft.warmup)]
    warmup: f32,
    /// Probability that a feature is kept from an adapter
    #[arg(long, value_name = "X", value_parser = part, default_value_t = TrainConfig::default().sft.dropout)]
    dropout: f32,
    /// AdamW's weight decay
    #[arg(long, value_name = "X", value_parser = part, default_value_t = TrainConfig::default().sft.weight_decay)]
    weight_decay: f32,
    /// Gradients longer than this are scaled down to it
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().sft.max_grad_norm)]
    max_grad_norm: f32,
    /// End after so many epochs without a gain on the held-out texts, and go back to the best [default: go on]
    #[arg(long, value_name = "N", value_parser = count)]
    patience: Option<usize>,
}

impl FitArgs {
    fn set(&self, config: &mut FitConfig) {
        config.micro_batch_size = self.micro_batch_size.unwrap_or(0);
        config.schedule = self.schedule;
        config.warmup = self.warmup;
        config.dropout = self.dropout;
        config.weight_decay = self.weight_decay;
        config.max_grad_norm = self.max_grad_norm;
        config.patience = self.patience.unwrap_or(0);
    }
}

#[derive(Args)]
#[command(next_help_heading = "Stage sft: learn the user's texts")]
struct SftArgs {
    /// Peak learning rate
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().sft.learning_rate)]
    learning_rate: f32,
    /// Passes over the history
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().sft.epochs)]
    epochs: usize,
    /// Items a step
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().sft.batch_size)]
    batch_size: usize,
}

fn weight_type(name: &str) -> Result<WeightType, String> {
    match name {
        "f32" => Ok(WeightType::F32),
        "bf16" => Ok(WeightType::Bf16),
        "quantized" => Ok(WeightType::Quantized),
        _ => Err("the types are f32, bf16 and quantized".into()),
    }
}

fn schedule(name: &str) -> Result<LrSchedule, String> {
    match name {
        "linear" => Ok(LrSchedule::Linear),
        "cosine" => Ok(LrSchedule::Cosine),
        _ => Err("the schedules are linear and cosine".into()),
    }
}

fn part(number: &str) -> Result<f32, String> {
    match number.parse() {
        Ok(part) if (0.0..1.0).contains(&part) => Ok(part),
        _ => Err("it must be at least 0 and below 1".into()),
    }
}

/// A value by the name that it has in files.
pub fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

pub fn weight(number: &str) -> Result<f32, String> {
    finite(number, |number| number >= 0.0, "0 or above")
}

pub fn positive(number: &str) -> Result<f32, String> {
    finite(number, |number| number > 0.0, "above 0")
}

fn finite(number: &str, in_range: impl Fn(f32) -> bool, range: &str) -> Result<f32, String> {
    let number: f32 = number.parse().map_err(|_| "not a number")?;
    if number.is_finite() && in_range(number) {
        Ok(number)
    } else {
        Err(format!("it must be {range}"))
    }
}
