//! The settings of a training. The defaults, which stand here once, are for models of a few hundred million
//! parameters; `benches/README.md` says what they were chosen on.

use serde::{Deserialize, Serialize};

use super::device::TrainDevice;
use super::dpo::DpoConfig;
use super::fit::{FitConfig, Schedule};
use super::lora::{LoraConfig, TargetModule};
use super::mine::{MineConfig, Preference, Sampler};
use super::ops::linear::WeightType;

/// Everything that, with the base and the history, decides the adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// The size of the adapter.
    pub lora: LoraConfig,
    /// The first stage.
    pub sft: FitConfig,
    /// The second.
    pub mine: MineConfig,
    /// The third.
    pub dpo: DpoConfig,
    /// Where to compute.
    pub device: TrainDevice,
    /// How the base's weights are held and multiplied.
    pub weight_type: WeightType,
    /// Whether the backward pass computes each block's activations again rather than keep them: slower by a third, the
    /// same result.
    pub recompute: bool,
    /// Seed of the initial adapter, the order of the items, and the samples.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let device = TrainDevice::Cpu;
        let fit = FitConfig {
            learning_rate: 2e-3,
            epochs: 2,
            batch_size: 4,
            micro_batch_size: 0,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            warmup: 0.1,
            schedule: Schedule::Linear,
            dropout: 0.0,
            patience: 0,
        };
        Self {
            lora: LoraConfig {
                rank: 8,
                lora_alpha: 16.0,
                target_modules: TargetModule::ALL.to_vec(),
            },
            sft: fit.clone(),
            mine: MineConfig {
                sampler: Sampler::Base,
                preference: Preference::Reward,
                n_samples: 3,
                temperature: 1.0,
                top_p: 0.95,
                max_new_tokens: 256,
                length_ratio: 1.0,
                base_weight: 1.0,
            },
            dpo: DpoConfig {
                fit: FitConfig {
                    learning_rate: 1e-4,
                    epochs: 1,
                    ..fit
                },
                beta: 0.1,
                length_normalized: false,
                base_weight: 1.0,
                rpo_alpha: 0.0,
            },
            weight_type: device.fastest_weights(),
            device,
            recompute: false,
            seed: 0,
        }
    }
}
