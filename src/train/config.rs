//! The settings of a training, and their defaults, which are for models of a few hundred million parameters.
//! `benches/README.md` says on which data the defaults were chosen.

use cope_convert::RopeFactors;
use cope_convert::gguf::Gguf;
use serde::{Deserialize, Serialize};

use super::device::TrainDevice;
use super::dpo::DpoConfig;
use super::fit::{FitConfig, LrSchedule};
use super::lora::{LoraConfig, TargetModule};
use super::mine::{MineConfig, Preference, SampleSource};
use super::ops::linear::WeightType;
use crate::home::StartAdapter;
use crate::llama::{self, ContextOptions};

/// All settings of a training. With the base and the history they determine the adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// The size of the adapter.
    pub lora: LoraConfig,
    /// The first stage, SFT.
    pub sft: FitConfig,
    /// The second stage, mining.
    pub mine: MineConfig,
    /// The third stage, DPO.
    pub dpo: DpoConfig,
    /// The device that computes.
    pub device: TrainDevice,
    /// The type that the base's weights are held and multiplied in.
    pub weight_type: WeightType,
    /// Whether the backward pass recomputes each block's activations instead of keeping them (gradient checkpointing):
    /// slower by a third, with the same result.
    pub recompute: bool,
    /// Seed of the initial adapter, the order of the items, and the samples.
    pub seed: u64,
    /// Number of the history's newest texts that are not trained on, so that calibration can choose scale and contrast
    /// on them. `None` holds out a tenth, at least 8, of a history of at least 40 texts, and nothing of a shorter one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<usize>,
    /// Replayed answers for each text of the user ([`replay`](super::replay)); 0 or more. `None` takes
    /// [`REPLAY`](super::replay::REPLAY), or 0 where an earlier version without replay has trained and nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<f32>,
    /// Whether calibration uses the adapter after DPO even where the one after SFT is better.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_dpo: bool,
    /// The adapter of another user that SFT starts from, set by [`TrainConfig::start_from`]; `None` starts from a random
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartAdapter>,
    /// The factors of the rotary frequencies, of a base that has two sets, set by [`TrainConfig::serve_in`]; `None` takes
    /// those of a context of the default size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_factors: Option<RopeFactors>,
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
            schedule: LrSchedule::Linear,
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
                sampler: SampleSource::User,
                preference: Preference::Likeness,
                n_samples: 6,
                temperature: 1.0,
                top_p: 0.95,
                max_new_tokens: 448,
                length_ratio: 1.5,
                base_weight: 1.0,
            },
            dpo: DpoConfig {
                fit: FitConfig {
                    learning_rate: 5e-4,
                    ..fit
                },
                beta: 2.0,
                length_normalized: true,
                base_weight: 1.0,
                rpo_alpha: 1.0,
            },
            weight_type: device.fastest_weights(),
            device,
            recompute: false,
            seed: 0,
            hold_out: None,
            replay: None,
            keep_dpo: false,
            start: None,
            rope_factors: None,
        }
    }
}

impl TrainConfig {
    /// Makes the training one for contexts of `n_ctx` tokens, which matters for a base that has factors of the rotary
    /// frequencies for short and for long contexts.
    pub fn serve_in(&mut self, base: &Gguf, n_ctx: u32) {
        let usual = llama::rope_factors(base, ContextOptions::default().n_ctx);
        let asked = llama::rope_factors(base, n_ctx);
        self.rope_factors = asked.filter(|_| asked != usual);
    }

    /// The paper's mining and DPO, with learning rates for small models: the user's own text is preferred to the one of
    /// three samples of the base that has the lowest reward; rewards are of whole responses; and DPO's loss stands
    /// alone. Nothing is replayed.
    #[must_use]
    pub fn paper() -> Self {
        let mut config = Self::default();
        config.mine.sampler = SampleSource::Base;
        config.mine.preference = Preference::Reward;
        config.mine.n_samples = 3;
        config.mine.length_ratio = 1.0;
        config.dpo.fit.learning_rate = 1e-4;
        config.dpo.fit.epochs = 1;
        config.dpo.beta = 0.1;
        config.dpo.length_normalized = false;
        config.dpo.rpo_alpha = 0.0;
        config.replay = Some(0.0);
        config
    }
}
