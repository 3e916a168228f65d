//! Our own operations and candle's, which train on GPUs, give the same results.

use candle_core::{DType, Device, Tensor};
use cope_llama::decode::Contrast;
use cope_llama::train::calibrate::score::{TextScores, measure};
use cope_llama::train::dpo::{pair_logps, pair_loss};
use cope_llama::train::lora::Lora;
use cope_llama::train::model::TrainModel;
use cope_llama::train::sample::{SampleConfig, SampleRequest, Sampled, sample};
use cope_llama::train::{EncodedPair, TrainConfig, WeightType, sft};

use super::{Tiny, families, full_lora, gradients_of, largest_difference, train_logits};

/// The devices to test candle's operations on: the CPU, and the GPU that the build is for.
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
fn models_on_devices() -> impl Iterator<Item = (Tiny, Device)> {
    let on_each = |device: Device| {
        families()
            .into_iter()
            .map(move |tiny| (tiny, device.clone()))
    };
    devices().into_iter().flat_map(on_each)
}

/// The same model twice: in our own operations, and in candle's.
fn both(tiny: &Tiny, device: &Device) -> [TrainModel; 2] {
    let load = |weight_type| TrainModel::load(&tiny.fixture.base, weight_type).unwrap();
    let candle = load(WeightType::Quantized);
    let candle = candle.on_candle(device, DType::F32).unwrap();
    [load(WeightType::F32), candle]
}

/// Checks that both models give the same loss and the same gradients of all LoRA matrices.
fn assert_same_step(lora: &Lora, losses: &[Tensor; 2]) {
    let [x, y] = losses
        .each_ref()
        .map(|loss| loss.to_scalar::<f32>().unwrap());
    assert!((x - y).abs() < 1e-5 * x.abs().max(1.0), "{x}, {y}");
    let [ours, candle] = losses.each_ref().map(|loss| gradients_of(lora, loss));
    let largest = ours.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.01);
    let apart = largest_difference(&ours, &candle);
    assert!(apart < 1e-4 * largest, "{apart} of {largest}");
}

#[test]
fn logits_of_both_implementations_agree() {
    for (tiny, device) in models_on_devices() {
        let tokens = tiny
            .encode("hello alice, the wine", " and a dear note")
            .prompt;
        let lora = full_lora(&tiny);
        for lora in [None, Some(&lora)] {
            let [ours, candle] =
                both(&tiny, &device).map(|model| train_logits(&model, &tokens, lora));
            assert!(largest_difference(&ours, &candle) < 1e-4);
            // In bf16, which GPUs train in, candle's logits are off by less than four times as much as ours.
            let load = |weight_type| TrainModel::load(&tiny.fixture.base, weight_type).unwrap();
            let rounded = load(WeightType::Quantized).on_candle(&device, DType::BF16);
            let rounded = [load(WeightType::Bf16), rounded.unwrap()];
            let [own, candle] = rounded
                .map(|model| largest_difference(&ours, &train_logits(&model, &tokens, lora)));
            assert!(
                own > 1e-4 && candle > 1e-4 && candle < 4.0 * own,
                "{own}, {candle}"
            );
        }
    }
}

#[test]
fn losses_and_gradients_of_both_implementations_agree() {
    let config = TrainConfig::default().dpo;
    for (tiny, device) in models_on_devices() {
        let (examples, pairs) = (tiny.examples(), tiny.pairs());
        let pairs: Vec<_> = pairs.iter().collect();
        let lora = full_lora(&tiny);
        for lora in [lora.clone(), lora.dropping(0.3, 7, 1)] {
            let sft = |model: TrainModel| sft::batch_loss(&model, &lora, &examples).unwrap().loss;
            assert_same_step(&lora, &both(&tiny, &device).map(sft));
        }
        let dpo = |model: TrainModel| {
            let base_logps = pair_logps(&model, None, &pairs, &mut || Ok(())).unwrap();
            pair_loss(&model, &lora, &pairs, &base_logps, &config)
                .unwrap()
                .loss
        };
        assert_same_step(&lora, &both(&tiny, &device).map(dpo));
    }
}

/// The first adapted layers of a model have a gradient even where nothing else in their block has one.
#[test]
fn an_adapter_of_keys_or_of_values_alone_has_gradients_in_both_implementations() {
    let tiny = Tiny::new();
    for target in ["attn_k", "attn_v"] {
        let adapter = tiny.kind.adapter(3, 4, &[target]);
        let lora = Lora::from_adapter(&adapter, tiny.model.shape()).unwrap();
        let sft = |model: TrainModel| {
            let step = sft::batch_loss(&model, &lora, &tiny.examples()).unwrap();
            step.loss
        };
        assert_same_step(&lora, &both(&tiny, &Device::Cpu).map(sft));
    }
}

#[test]
fn a_step_in_candle_gives_the_same_bits_each_time() {
    for (tiny, device) in models_on_devices() {
        let (lora, [_, model]) = (full_lora(&tiny), both(&tiny, &device));
        let gradients = || {
            let step = sft::batch_loss(&model, &lora, &tiny.examples()).unwrap();
            gradients_of(&lora, &step.loss)
        };
        assert_eq!(gradients(), gradients());
    }
}

/// The two samples of a request, as a pair.
fn pair((request, sampled): (&SampleRequest, &Sampled)) -> EncodedPair {
    let [chosen, rejected] = [0, 1].map(|i| sampled.samples[i].tokens.clone());
    EncodedPair {
        prompt: request.prompt.to_vec(),
        chosen,
        rejected,
    }
}

#[test]
fn samples_of_both_implementations_agree() {
    let config = SampleConfig {
        n_samples: 2,
        temperature: 1.0,
        top_p: 0.95,
        seed: 9,
    };
    for (tiny, device) in models_on_devices() {
        let examples = tiny.examples();
        let request = |i: usize| SampleRequest {
            number: i,
            prompt: &examples[i % 2].prompt,
            response: &examples[i % 2].response,
            max_new_tokens: 5 + i % 7,
        };
        let requests: Vec<_> = (0..20).map(request).collect();
        let models = both(&tiny, &device);
        let [ours, candle] = models.each_ref().map(|model| {
            sample(model, None, &requests, config, &|token| token == 2, |_| {
                Ok(())
            })
            .unwrap()
        });
        let mut n_apart = 0;
        for (ours, candle) in ours.iter().zip(&candle) {
            assert!((ours.response_logps - candle.response_logps).abs() < 1e-3);
            for (ours, candle) in ours.samples.iter().zip(&candle.samples) {
                if ours.tokens == candle.tokens {
                    assert!((ours.logps - candle.logps).abs() < 1e-3);
                } else {
                    n_apart += 1;
                }
            }
        }
        // Our own operations give candle's samples the log-probabilities that candle gave them while drawing.
        let pairs: Vec<_> = std::iter::zip(&requests, &candle).map(pair).collect();
        let pairs: Vec<_> = pairs.iter().collect();
        let logps = pair_logps(&models[0], None, &pairs, &mut || Ok(())).unwrap();
        for (logps, sampled) in logps.iter().zip(&candle) {
            for (logp, sample) in logps.iter().zip(&sampled.samples) {
                assert!((f64::from(*logp) - sample.logps).abs() < 1e-3);
            }
        }
        // A random number may fall so close to the edge between two tokens that rounding decides which is drawn.
        assert!(n_apart <= 2, "{n_apart} of 40 samples");
    }
}

#[test]
fn scores_of_calibration_agree() {
    for (tiny, device) in models_on_devices() {
        let (texts, lora) = (tiny.examples(), full_lora(&tiny).scaled(0.5));
        let contrasts = [0.0, 0.3].map(|alpha| Contrast::new(alpha, 0.1).unwrap());
        let [ours, candle] = both(&tiny, &device).map(|model| {
            let loras = std::slice::from_ref(&lora);
            measure(&model, (&texts, 8), loras, &contrasts, &mut || Ok(())).unwrap()
        });
        let flat = |scores: TextScores| {
            let contrasted = scores.contrasted.into_iter().flatten().flatten();
            scores
                .base
                .into_iter()
                .chain(contrasted)
                .collect::<Vec<_>>()
        };
        let (ours, candle) = (flat(ours), flat(candle));
        assert_eq!(ours.len(), candle.len());
        for (ours, candle) in ours.into_iter().zip(candle) {
            assert!(
                (ours.logprob - candle.logprob).abs() < 2e-3,
                "{ours:?}, {candle:?}"
            );
            assert_eq!(
                (ours.n_best, ours.n_tokens),
                (candle.n_best, candle.n_tokens)
            );
        }
    }
}
