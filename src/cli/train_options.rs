//! The options that `train` and `train-task` share.

use std::path::Path;

use anyhow::Result;
use clap::{Args, ValueEnum};
use cope_convert::gguf::Gguf;
use cope_llama::train::fit::{FitConfig, LrSchedule};
use cope_llama::train::lora::TargetModule;
use cope_llama::train::{TrainConfig, TrainDevice, WeightType};

use super::options::{BaseArg, count};

#[derive(Args)]
pub struct TrainOptions {
    /// Seed of the adapter's initial weights, of the order of the items, and of the samples
    #[arg(short, long, value_name = "N", default_value_t = TrainConfig::default().seed)]
    seed: u64,
    /// Device to train on; cuda and metal need a build with the feature of that name
    #[arg(long, value_enum, value_name = "cpu|cuda|metal", hide_possible_values = true, default_value_t = TrainConfig::default().device)]
    device: TrainDevice,
    /// Type in which the base's weights are held and multiplied; quantized, the file's own types, works on the CPU only
    /// [default: bf16 on a GPU and on CPUs that multiply bf16 natively, else f32]
    #[arg(
        long,
        value_enum,
        value_name = "f32|bf16|quantized",
        hide_possible_values = true
    )]
    weights: Option<WeightType>,
    /// Recompute activations in the backward pass instead of storing them (gradient checkpointing): less memory, a third
    /// slower, the same adapter; CPU only
    #[arg(long)]
    recompute: bool,
    /// Size in tokens of the contexts that the adapter is for; it matters for bases such as Phi-3's, whose positions are
    /// rotated otherwise in long contexts [default: that of chats]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx_size: Option<u32>,
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
    /// The settings of a training on the base at `base`.
    pub fn config(&self, base: &Path) -> Result<TrainConfig> {
        let mut config = TrainConfig {
            seed: self.seed,
            device: self.device,
            recompute: self.recompute,
            ..TrainConfig::default()
        };
        config.weight_type = self.weights.unwrap_or(self.device.fastest_weights());
        config.lora.rank = self.adapter.rank;
        config.lora.lora_alpha = self.adapter.lora_alpha;
        if !self.adapter.target_modules.is_empty() {
            let modules = self.adapter.target_modules.iter();
            config.lora.target_modules = modules.flat_map(|it| it.0.clone()).collect();
        }
        self.fit.set(&mut config.sft);
        self.fit.set(&mut config.dpo.fit);
        config.sft.learning_rate = self.sft.learning_rate;
        config.sft.epochs = self.sft.epochs;
        config.sft.batch_size = self.sft.batch_size;
        if let Some(n_ctx) = self.ctx_size {
            config.serve_in(&Gguf::open(base)?, n_ctx);
        }
        Ok(config)
    }

    /// Options that would take less memory, as text to append to the estimate; empty when all of them are in use.
    pub fn less_memory_hint(&self) -> &'static str {
        match (self.weights, self.recompute) {
            (Some(WeightType::Quantized), true) => "",
            _ => "; less with --weights quantized --recompute",
        }
    }
}

#[derive(Args)]
#[command(next_help_heading = "Adapter")]
struct AdapterArgs {
    /// Rank of the LoRA matrices
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().lora.rank)]
    rank: usize,
    /// LoRA's alpha: the adapter's output is multiplied by alpha / rank
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().lora.lora_alpha)]
    lora_alpha: f32,
    /// The layers that get an adapter; empty for all.
    #[arg(
        long,
        value_parser = layers,
        value_name = "LIST",
        value_delimiter = ',',
        help = "Linear layers of each block that get an adapter, separated by commas, also by PEFT's names: q, k, v, o, gate, up, down, and in some models in_proj_qkv, in_proj_z, in_proj_a, in_proj_b, out_proj, conv.in_proj, conv.out_proj, per_layer_input_gate, per_layer_projection [default: all that the model has]"
    )]
    target_modules: Vec<NamedLayers>,
}

/// The layers of one name.
#[derive(Clone)]
struct NamedLayers(Vec<TargetModule>);

/// The layers of a name of ours or of PEFT, in which a matrix may hold several layers (`qkv_proj`).
fn layers(name: &str) -> Result<NamedLayers, String> {
    use TargetModule::{Gate, K, Q, Up, V};
    let of_name = |name: &str| TargetModule::from_str(name, false);
    let layers = match name {
        "qkv_proj" => vec![Q, K, V],
        "gate_up_proj" => vec![Gate, Up],
        _ => {
            let short = name.strip_suffix("_proj").unwrap_or(name);
            let layer = of_name(name).or_else(|_| of_name(short));
            let names = || TargetModule::ALL.map(TargetModule::name).join(", ");
            vec![layer.map_err(|_| format!("the layers are {}", names()))?]
        }
    };
    Ok(NamedLayers(layers))
}

#[derive(Args)]
#[command(next_help_heading = "Stages sft and dpo")]
struct FitArgs {
    /// Items per forward and backward pass; their gradients are summed into one optimizer step (gradient accumulation)
    /// [default: the whole batch]
    #[arg(long, value_name = "N", value_parser = count)]
    micro_batch_size: Option<usize>,
    /// How the learning rate decays to zero after the warm-up
    #[arg(
        long,
        value_enum,
        value_name = "linear|cosine",
        hide_possible_values = true,
        default_value = "linear"
    )]
    schedule: LrSchedule,
    /// Fraction of the steps in which the learning rate rises to its peak (warm-up)
    #[arg(long, value_name = "X", value_parser = fraction, default_value_t = TrainConfig::default().sft.warmup)]
    warmup: f32,
    /// Probability of zeroing a feature on its way into the adapter (dropout)
    #[arg(long, value_name = "X", value_parser = fraction, default_value_t = TrainConfig::default().sft.dropout)]
    dropout: f32,
    /// Weight decay of AdamW
    #[arg(long, value_name = "X", value_parser = fraction, default_value_t = TrainConfig::default().sft.weight_decay)]
    weight_decay: f32,
    /// Gradient clipping: a gradient with a larger norm than this is scaled down to it
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().sft.max_grad_norm)]
    max_grad_norm: f32,
    /// Early stopping: end after this many epochs without a gain on the held-out texts, and keep the best epoch's
    /// adapter [default: off]
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
    /// Passes over the history (epochs)
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().sft.epochs)]
    epochs: usize,
    /// Items per optimizer step
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().sft.batch_size)]
    batch_size: usize,
}

fn fraction(number: &str) -> Result<f32, String> {
    match number.parse() {
        Ok(fraction) if (0.0..1.0).contains(&fraction) => Ok(fraction),
        _ => Err("it must be at least 0 and below 1".into()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_our_name_and_that_of_peft() {
        use TargetModule::{ConvInProj, Down, Gate, InProjQkv, K, OutProj, Q, Up, V};
        for (name, expected) in [
            ("q", vec![Q]),
            ("q_proj", vec![Q]),
            ("w2", vec![Down]),
            ("down_proj", vec![Down]),
            ("qkv_proj", vec![Q, K, V]),
            ("gate_up_proj", vec![Gate, Up]),
            ("out_proj", vec![OutProj]),
            ("in_proj_qkv", vec![InProjQkv]),
            ("conv.in_proj", vec![ConvInProj]),
        ] {
            assert_eq!(layers(name).map(|it| it.0), Ok(expected), "{name}");
        }
        for name in ["x", "_proj", "in_proj", ""] {
            let refused = layers(name).map(|it| it.0).unwrap_err();
            assert!(
                refused.starts_with("the layers are q, k, v, o, gate, "),
                "{name}: {refused}"
            );
        }
    }
}
