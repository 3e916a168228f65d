//! Training on the tiny model, against llama.cpp, finite differences, and itself.

mod candle;

use candle_core::Tensor;
use cope_convert::{Adapter, Matrix};
use cope_llama::llama::{Boundary, Special};
use cope_llama::train::batch::PackedBatch;
use cope_llama::train::dpo::{DpoConfig, pair_logps, pair_loss};
use cope_llama::train::fit::StepLoss;
use cope_llama::train::generate::{SampleConfig, SampleRequest, Sampled, sample};
use cope_llama::train::lora::Lora;
use cope_llama::train::loss::response_logps;
use cope_llama::train::mine::{MineConfig, Miner, Preference, SampleSource};
use cope_llama::train::model::TrainModel;
use cope_llama::train::{Encoded, EncodedPair, TrainConfig, WeightType, sft};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::Fixture;
use crate::tiny::{FAMILIES, LINEARS, N_LAYER, TinyModel, tiny_adapter};

/// The tiny model in candle, and token sequences for it.
struct Tiny {
    fixture: Fixture,
    model: TrainModel,
}

impl Tiny {
    fn new() -> Self {
        Self::of(TinyModel::default())
    }

    fn of(tiny: TinyModel) -> Self {
        let fixture = Fixture::of(tiny);
        let model = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
        Self { fixture, model }
    }

    fn encode(&self, prompt: &str, response: &str) -> Encoded {
        let tokens = |text, boundary| {
            let model = &self.fixture.model;
            model.tokenize(text, boundary, Special::ByName).unwrap()
        };
        Encoded {
            prompt: tokens(prompt, Boundary::Add),
            response: tokens(response, Boundary::Omit),
        }
    }

    fn pairs(&self) -> Vec<EncodedPair> {
        let texts = [
            ("hello alice", "dear you, thanks", "the wine"),
            ("the note and the wine", "fine", "and and and alice"),
        ];
        let pair = |(prompt, chosen, rejected)| {
            let (chosen, rejected) = (self.encode(prompt, chosen), self.encode(prompt, rejected));
            EncodedPair {
                prompt: chosen.prompt,
                chosen: chosen.response,
                rejected: rejected.response,
            }
        };
        texts.map(pair).into()
    }

    fn examples(&self) -> Vec<Encoded> {
        let example = |pair: EncodedPair| Encoded {
            prompt: pair.prompt,
            response: pair.chosen,
        };
        self.pairs().into_iter().map(example).collect()
    }
}

/// Each family once, `llama` with a head of its own and Llama 3's rotary embedding too.
fn families() -> Vec<Tiny> {
    let llama3 = TinyModel {
        tied: false,
        rope_factors: true,
        ..TinyModel::default()
    };
    let of = |architecture| TinyModel {
        architecture,
        ..TinyModel::default()
    };
    FAMILIES
        .into_iter()
        .map(of)
        .chain([llama3])
        .map(Tiny::of)
        .collect()
}

fn all_targets() -> Adapter {
    tiny_adapter(3, 4, &LINEARS)
}

fn lora(adapter: &Adapter) -> Lora {
    Lora::from_adapter(adapter, N_LAYER).unwrap()
}

/// `[t][n_vocab]` in candle.
fn candle_logits(model: &TrainModel, tokens: &[i32], lora: Option<&Lora>) -> Vec<f32> {
    let mut batch = PackedBatch::default();
    batch.push(tokens, []);
    model.logits(&batch.rows, lora).unwrap()
}

fn largest_difference(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    x.iter()
        .zip(y)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f32::max)
}

#[test]
fn logits_are_llama_cpps() {
    for tiny in families() {
        let adapter = Adapter {
            architecture: tiny.fixture.base.architecture().unwrap().to_owned(),
            ..all_targets()
        };
        let runtime = &tiny.fixture.model;
        let tokens = runtime
            .tokenize(
                "hello alice, the wine and a dear note",
                Boundary::Add,
                Special::ByName,
            )
            .unwrap();
        let mut twin = tiny.fixture.twin(&adapter, 1.0);
        let base = twin.base.extend_all(&tokens).unwrap();
        let user = twin.user.extend_all(&tokens).unwrap();

        // ggml looks GELU up in a table of half precision. Rounded alike, the logits differ by 1e-5.
        let tolerance = match adapter.architecture.as_str() {
            "gemma3" => 5e-3,
            _ => 1e-3,
        };
        let ours = candle_logits(&tiny.model, &tokens, None);
        assert!(largest_difference(&ours, &base) < tolerance);
        let ours = candle_logits(&tiny.model, &tokens, Some(&lora(&adapter)));
        assert!(largest_difference(&ours, &user) < tolerance);
        // The comparison would notice a missing adapter.
        assert!(largest_difference(&base, &user) > 0.1);
    }
}

#[test]
fn a_task_adapter_is_part_of_the_base() {
    let tiny = Tiny::new();
    let task = tiny_adapter(8, 2, &["attn_q", "attn_output", "ffn_down"]);
    let user = all_targets();
    let stacked = Adapter::stack(&[(&task, 1.0), (&user, 1.0)])
        .unwrap()
        .load()
        .unwrap();
    let runtime = &tiny.fixture.model;
    let tokens = runtime
        .tokenize("hello alice, the wine", Boundary::Add, Special::ByName)
        .unwrap();
    let theirs = |adapter| {
        let mut twin = tiny.fixture.twin(adapter, 1.0);
        twin.user.extend_all(&tokens).unwrap()
    };
    for weight_type in [WeightType::F32, WeightType::Quantized] {
        let model =
            TrainModel::load_with_task(&tiny.fixture.base, weight_type, Some(&task)).unwrap();
        // Quantised weights are multiplied in bf16.
        let tolerance = match weight_type {
            WeightType::F32 => 1e-3,
            _ => 0.2,
        };
        let base = candle_logits(&model, &tokens, None);
        assert!(largest_difference(&base, &theirs(&task)) < tolerance);
        let with_user = candle_logits(&model, &tokens, Some(&lora(&user)));
        assert!(largest_difference(&with_user, &theirs(&stacked)) < tolerance);
        assert!(largest_difference(&base, &candle_logits(&tiny.model, &tokens, None)) > 0.5);
    }
}

#[test]
fn a_shared_prompt_changes_nothing() {
    families().iter().for_each(check_shared_prompt);
}

fn check_shared_prompt(tiny: &Tiny) {
    let lora = lora(&all_targets());
    let pairs = tiny.pairs();
    let mut shared = PackedBatch::default();
    let mut apart = PackedBatch::default();
    for pair in &pairs {
        shared.push(&pair.prompt, [pair.chosen.as_slice(), &pair.rejected]);
        apart.push(&pair.prompt, [pair.chosen.as_slice()]);
        apart.push(&pair.prompt, [pair.rejected.as_slice()]);
    }
    let mut prefixed = PackedBatch::sharing(pairs.iter().map(|pair| pair.prompt.as_slice()));
    for pair in &pairs {
        prefixed.push(&pair.prompt, [pair.chosen.as_slice(), &pair.rejected]);
    }
    assert!(shared.n_tokens() < apart.n_tokens() && prefixed.n_tokens() < shared.n_tokens());
    let logprobs = |batch: &PackedBatch| {
        tiny.model
            .logprobs(batch, Some(&lora))
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert!(largest_difference(&logprobs(&shared), &logprobs(&apart)) < 1e-4);
    assert!(largest_difference(&logprobs(&prefixed), &logprobs(&apart)) < 1e-4);

    // And both are what the softmax of the whole sequence's logits says.
    let pair = &pairs[0];
    let whole = [pair.prompt.as_slice(), &pair.chosen].concat();
    let logits = candle_logits(&tiny.model, &whole, Some(&lora));
    let n_vocab = tiny.model.shape().n_vocab;
    for (i, (&token, logprob)) in pair.chosen.iter().zip(logprobs(&shared)).enumerate() {
        let row = pair.prompt.len() - 1 + i;
        let row = &logits[row * n_vocab..(row + 1) * n_vocab];
        let log_norm = row.iter().map(|z| f64::from(*z).exp()).sum::<f64>().ln();
        assert!((f64::from(row[token as usize]) - log_norm - f64::from(logprob)).abs() < 1e-4);
    }
}

/// Checks the gradient of every LoRA tensor, in a random direction, against `(f(θ + hd) − f(θ − hd)) / 2h`.
fn check_gradients(loss_of: impl Fn(&Lora) -> StepLoss) {
    const STEP: f32 = 5e-4;
    let adapter = all_targets();
    let loss = |lora: &Lora| loss_of(lora).loss;
    let value = |adapter: &Adapter| f64::from(loss(&lora(adapter)).to_scalar::<f32>().unwrap());
    let trained = lora(&adapter);
    let gradients = loss(&trained).backward().unwrap();
    let variables = trained.variables();
    assert_eq!(variables.len(), 2 * LINEARS.len() * N_LAYER);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (name, variable) in &variables {
        let gradient: Vec<f32> = gradients
            .get(variable)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let direction: Vec<f32> = gradient
            .iter()
            .map(|_| random.random_range(-1.0..1.0))
            .collect();
        let moved = |step: f32| {
            let mut adapter = adapter.clone();
            let matrix = matrix_mut(&mut adapter, name);
            matrix
                .data
                .iter_mut()
                .zip(&direction)
                .for_each(|(x, d)| *x += step * d);
            value(&adapter)
        };
        let expected = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
        let got: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(g * d))
            .sum();
        // A loss is known to half a millionth, so its quotient to some thousandths.
        assert!(
            (got - expected).abs() < 0.01 * expected.abs() + 4e-3,
            "{name}: {got}, expected {expected}"
        );
        assert!(
            expected.abs() > 1e-2,
            "{name}: {expected} is too small for the check to mean anything"
        );
    }
}

fn matrix_mut<'a>(adapter: &'a mut Adapter, name: &str) -> &'a mut Matrix {
    let (tensor, side) = name.rsplit_once('.').unwrap();
    let tensor = adapter
        .tensors
        .iter_mut()
        .find(|t| t.name == tensor)
        .unwrap();
    if side == "lora_a" {
        &mut tensor.a
    } else {
        &mut tensor.b
    }
}

#[test]
fn sft_gradients_are_finite_differences() {
    for tiny in families() {
        let examples = tiny.examples();
        check_gradients(|lora| sft::batch_loss(&tiny.model, lora, &examples).unwrap());
    }
}

#[test]
fn gradients_with_dropout_are_finite_differences() {
    let tiny = Tiny::new();
    let examples = tiny.examples();
    check_gradients(|lora| {
        sft::batch_loss(&tiny.model, &lora.dropping(0.3, 7, 1), &examples).unwrap()
    });
}

#[test]
fn dpo_gradients_are_finite_differences() {
    let tiny = Tiny::new();
    let pairs = tiny.pairs();
    let pairs: Vec<_> = pairs.iter().collect();
    let base_logps = pair_logps(&tiny.model, None, &pairs).unwrap();
    for (length_normalized, beta, rpo_alpha) in
        [(false, 0.1, 0.0), (true, 1.0, 0.0), (false, 0.1, 0.5)]
    {
        let config = DpoConfig {
            beta,
            length_normalized,
            base_weight: 0.7,
            rpo_alpha,
            ..TrainConfig::default().dpo
        };
        check_gradients(|lora| pair_loss(&tiny.model, lora, &pairs, &base_logps, &config).unwrap());
    }
}

/// [`gradients_of`] of the loss of SFT.
pub fn gradients(model: &TrainModel, lora: &Lora, examples: &[Encoded]) -> Vec<f32> {
    gradients_of(lora, &sft::batch_loss(model, lora, examples).unwrap().loss)
}

/// Gradients of all LoRA tensors, one after the other.
fn gradients_of(lora: &Lora, loss: &Tensor) -> Vec<f32> {
    let gradients = loss.backward().unwrap();
    let variables = lora.variables();
    let values = variables.iter().flat_map(|(_, variable)| {
        let gradient = gradients.get(variable).unwrap();
        gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    });
    values.collect()
}

#[test]
fn recomputing_changes_nothing() {
    for tiny in families() {
        let (examples, lora) = (tiny.examples(), lora(&all_targets()));
        let kept = gradients(&tiny.model, &lora, &examples);
        let model = TrainModel::load(&tiny.fixture.base, WeightType::F32).unwrap();
        assert_eq!(kept, gradients(&model.recomputing(true), &lora, &examples));
    }
}

#[test]
fn samples_are_the_models_own_and_repeat() {
    for tiny in families() {
        check_samples(&tiny, None);
        check_samples(&tiny, Some(&lora(&all_targets()).frozen()));
    }
}

fn check_samples(tiny: &Tiny, lora: Option<&Lora>) {
    let examples = tiny.examples();
    let config = SampleConfig {
        n_samples: 3,
        temperature: 1.0,
        top_p: 0.95,
        seed: 9,
    };
    let requests: Vec<_> = (0..20)
        .map(|i| SampleRequest {
            number: i,
            prompt: &examples[i % 2].prompt,
            response: &examples[i % 2].response,
            max_new_tokens: 5 + i % 7,
        })
        .collect();
    let is_eog = |token| token == 2;
    let draw = |requests: &[SampleRequest]| {
        sample(&tiny.model, lora, requests, config, &is_eog, |_| Ok(())).unwrap()
    };
    let sampled = draw(&requests);
    assert_eq!(sampled, draw(&requests));
    // A sample does not depend on what else is in the batch.
    let tokens = |sampled: &Sampled| {
        let samples = sampled.samples.iter();
        samples.map(|s| s.tokens.clone()).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&sampled[0]), tokens(&draw(&requests[..1])[0]));
    // The cache gives what a pass over the whole sequence gives.
    for (request, sampled) in requests.iter().zip(&sampled) {
        let samples = &sampled.samples;
        assert_eq!(samples.len(), 3);
        let mut batch = PackedBatch::default();
        let tokens = samples.iter().map(|sample| sample.tokens.as_slice());
        batch.push(request.prompt, tokens.chain([request.response]));
        let logps = response_logps(
            &tiny.model.logprobs(&batch, lora).unwrap(),
            &batch.responses,
        )
        .unwrap();
        let logps = logps.to_vec1::<f32>().unwrap();
        assert!((sampled.response_logps - f64::from(logps[3])).abs() < 1e-3);
        for (sample, logps) in samples.iter().zip(logps) {
            assert!((sample.logps - f64::from(logps)).abs() < 1e-3);
            assert!(sample.finished == is_eog(*sample.tokens.last().unwrap()));
            assert!(sample.finished || sample.tokens.len() == request.max_new_tokens);
        }
    }
    let samples = &sampled[0].samples;
    assert_ne!(samples[0].tokens, samples[1].tokens);
}

/// What is mined, beside what the samples say one by one.
#[test]
fn pairs_are_the_best_and_the_worst_of_the_samples() {
    let tiny = Tiny::new();
    let (examples, lora) = (tiny.examples(), lora(&all_targets()));
    // Some of an untrained model's samples end, and some do not.
    let is_eog = |token: i32| token % 11 == 2;
    // Any measure will do.
    let likeness =
        |number: usize, tokens: &[i32]| f64::from(tokens.iter().sum::<i32>() % 97) + number as f64;
    let model = &tiny.model;
    for (sampler, preference) in [
        (SampleSource::Base, Preference::Reward),
        (SampleSource::User, Preference::Reward),
        (SampleSource::Base, Preference::Likeness),
        (SampleSource::User, Preference::Likeness),
    ] {
        let config = MineConfig {
            sampler,
            preference,
            n_samples: 4,
            base_weight: 0.5,
            length_ratio: 1.5,
            ..TrainConfig::default().mine
        };
        let miner = Miner {
            model,
            lora: &lora,
            config: &config,
            seed: 5,
            is_eog: &is_eog,
            likeness: &likeness,
        };
        let found = miner.mine(&examples, 3, |_| Ok(())).unwrap();
        let is_by_user = sampler == SampleSource::User;
        for (number, (example, found)) in examples.iter().zip(found).enumerate() {
            let len = example.response.len();
            let request = SampleRequest {
                number: 3 + number,
                prompt: &example.prompt,
                response: &example.response,
                max_new_tokens: len * 3 / 2 + len % 2,
            };
            let sampling = SampleConfig {
                n_samples: 4,
                temperature: config.temperature,
                top_p: config.top_p,
                seed: 5,
            };
            let by = is_by_user.then_some(&lora);
            let sampled = sample(model, by, &[request], sampling, &is_eog, |_| Ok(()));
            let samples = sampled.unwrap().remove(0).samples;
            let Some(found) = found else {
                assert!(preference == Preference::Likeness);
                assert!(samples.iter().filter(|sample| sample.finished).count() == 0);
                continue;
            };
            let logps = |tokens: &[i32], lora: Option<&Lora>| {
                let mut batch = PackedBatch::default();
                batch.push(&example.prompt, [tokens]);
                let logprobs = model.logprobs(&batch, lora).unwrap();
                let logps = response_logps(&logprobs, &batch.responses).unwrap();
                f64::from(logps.to_vec1::<f32>().unwrap()[0])
            };
            let frozen = lora.frozen();
            let score = |tokens: &[i32]| match preference {
                Preference::Reward => logps(tokens, Some(&frozen)) - 0.5 * logps(tokens, None),
                Preference::Likeness => likeness(3 + number, tokens),
            };
            let scores = samples.iter().map(|sample| score(&sample.tokens));
            let least = scores.fold(f64::MAX, f64::min);
            let ended = samples.iter().filter(|sample| sample.finished);
            let most = ended.map(|it| score(&it.tokens)).fold(f64::MIN, f64::max);
            assert!((score(&found.rejected.tokens) - least).abs() < 1e-3);
            match (preference, &found.chosen) {
                (Preference::Reward, None) => {}
                (Preference::Likeness, Some(chosen)) => {
                    assert!((score(&chosen.tokens) - most).abs() < 1e-9);
                }
                _ => panic!("the user's own text is preferred by reward alone"),
            }
            assert_eq!(found.base_logps.is_some(), !is_by_user);
            if let Some([chosen, rejected]) = found.base_logps {
                let preferred = found
                    .chosen
                    .as_ref()
                    .map_or(&example.response, |it| &it.tokens);
                assert!((chosen - logps(preferred, None)).abs() < 1e-3);
                assert!((rejected - logps(&found.rejected.tokens, None)).abs() < 1e-3);
            }
        }
    }
}
