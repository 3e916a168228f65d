//! Our operations and candle's, which GPUs train with, compute the same.

use candle_core::{DType, Device, Tensor};
use cope_llama::train::dpo::{pair_logps, pair_loss};
use cope_llama::train::generate::{SampleConfig, SampleRequest, Sampled, sample};
use cope_llama::train::lora::Lora;
use cope_llama::train::model::TrainModel;
use cope_llama::train::{EncodedPair, TrainConfig, WeightType, sft};

use super::{Tiny, all_targets, candle_logits, families, gradients_of, largest_difference, lora};

/// Where candle's operations compute: on the CPU, and on the GPU that the build is for.
fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if cfg!(feature = "cuda") {
        devices.push(Device::new_cuda(0).unwrap());
    }
    if cfg!(feature = "metal") {
        devices.push(Device::new_metal(0).unwrap());
    }
    devices
}

/// A tiny model of each family, on each device.
fn everywhere() -> impl Iterator<Item = (Tiny, Device)> {
    let on_each = |device: Device| {
        families()
            .into_iter()
            .map(move |tiny| (tiny, device.clone()))
    };
    devices().into_iter().flat_map(on_each)
}

/// The same model twice: in our operations, and in candle's.
fn both(tiny: &Tiny, device: &Device) -> [TrainModel; 2] {
    let load = |weight_type| TrainModel::load(&tiny.fixture.base, weight_type).unwrap();
    let composed = load(WeightType::Quantized);
    let composed = composed.on_candle(device, DType::F32).unwrap();
    [load(WeightType::F32), composed]
}

/// The two give the same loss, and the same gradients of all LoRA tensors.
fn assert_same_step(lora: &Lora, losses: &[Tensor; 2]) {
    let [x, y] = losses
        .each_ref()
        .map(|loss| loss.to_scalar::<f32>().unwrap());
    assert!((x - y).abs() < 1e-5 * x.abs().max(1.0), "{x}, {y}");
    let [ours, composed] = losses.each_ref().map(|loss| gradients_of(lora, loss));
    let largest = ours.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.01);
    let apart = largest_difference(&ours, &composed);
    assert!(apart < 1e-4 * largest, "{apart} of {largest}");
}

#[test]
fn logits_are_the_same() {
    for (tiny, device) in everywhere() {
        let tokens = tiny
            .encode("hello alice, the wine", " and a dear note")
            .prompt;
        let lora = lora(&all_targets());
        for lora in [None, Some(&lora)] {
            let [ours, composed] =
                both(&tiny, &device).map(|model| candle_logits(&model, &tokens, lora));
            assert!(largest_difference(&ours, &composed) < 1e-4);
            // In bf16, as on a GPU, no further from it than our own product in bf16 is, or a little.
            let load = |weight_type| TrainModel::load(&tiny.fixture.base, weight_type).unwrap();
            let rounded = load(WeightType::Quantized).on_candle(&device, DType::BF16);
            let rounded = [load(WeightType::Bf16), rounded.unwrap()];
            let [own, composed] = rounded
                .map(|model| largest_difference(&ours, &candle_logits(&model, &tokens, lora)));
            assert!(
                own > 1e-4 && composed > 1e-4 && composed < 4.0 * own,
                "{own}, {composed}"
            );
        }
    }
}

#[test]
fn steps_are_the_same() {
    let config = TrainConfig::default().dpo;
    for (tiny, device) in everywhere() {
        let (examples, pairs) = (tiny.examples(), tiny.pairs());
        let pairs: Vec<_> = pairs.iter().collect();
        let lora = lora(&all_targets());
        for lora in [lora.clone(), lora.dropping(0.3, 7, 1)] {
            let sft = |model: TrainModel| sft::batch_loss(&model, &lora, &examples).unwrap().loss;
            assert_same_step(&lora, &both(&tiny, &device).map(sft));
        }
        let dpo = |model: TrainModel| {
            let base_logps = pair_logps(&model, None, &pairs).unwrap();
            pair_loss(&model, &lora, &pairs, &base_logps, &config)
                .unwrap()
                .loss
        };
        assert_same_step(&lora, &both(&tiny, &device).map(dpo));
    }
}

#[test]
fn a_step_has_the_same_bits_each_time() {
    for (tiny, device) in everywhere() {
        let (lora, [_, model]) = (lora(&all_targets()), both(&tiny, &device));
        let gradients = || {
            let step = sft::batch_loss(&model, &lora, &tiny.examples()).unwrap();
            gradients_of(&lora, &step.loss)
        };
        assert_eq!(gradients(), gradients());
    }
}

/// The two samples of a prompt.
fn pair((request, sampled): (&SampleRequest, &Sampled)) -> EncodedPair {
    let [chosen, rejected] = [0, 1].map(|i| sampled.samples[i].tokens.clone());
    EncodedPair {
        prompt: request.prompt.to_vec(),
        chosen,
        rejected,
    }
}

#[test]
fn samples_are_the_same() {
    let config = SampleConfig {
        n_samples: 2,
        temperature: 1.0,
        top_p: 0.95,
        seed: 9,
    };
    for (tiny, device) in everywhere() {
        let examples = tiny.examples();
        let request = |i: usize| SampleRequest {
            number: i,
            prompt: &examples[i % 2].prompt,
            response: &examples[i % 2].response,
            max_new_tokens: 5 + i % 7,
        };
        let requests: Vec<_> = (0..20).map(request).collect();
        let models = both(&tiny, &device);
        let [ours, composed] = models.each_ref().map(|model| {
            sample(model, None, &requests, config, &|token| token == 2, |_| {
                Ok(())
            })
            .unwrap()
        });
        let mut n_apart = 0;
        for (ours, composed) in ours.iter().zip(&composed) {
            assert!((ours.response_logps - composed.response_logps).abs() < 1e-3);
            for (ours, composed) in ours.samples.iter().zip(&composed.samples) {
                if ours.tokens == composed.tokens {
                    assert!((ours.logps - composed.logps).abs() < 1e-3);
                } else {
                    n_apart += 1;
                }
            }
        }
        // Our model finds composed's samples, read anew, as likely as it said while it drew them.
        let pairs: Vec<_> = std::iter::zip(&requests, &composed).map(pair).collect();
        let pairs: Vec<_> = pairs.iter().collect();
        let logps = pair_logps(&models[0], None, &pairs).unwrap();
        for (logps, sampled) in logps.iter().zip(&composed) {
            for (logp, sample) in logps.iter().zip(&sampled.samples) {
                assert!((f64::from(*logp) - sample.logps).abs() < 1e-3);
            }
        }
        // A number may be drawn on the very edge between two tokens, which rounding moves.
        assert!(n_apart <= 2, "{n_apart} of 40 samples");
    }
}
