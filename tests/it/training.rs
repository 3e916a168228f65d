//! The trained model, on tiny models of each family: its logits against llama.cpp's, its gradients against finite
//! differences, and its variants against each other.

mod calibration;
mod candle;
mod fused;
mod gemma4;
mod mixers;
mod rope_factors;
mod sampling;
mod settings;
mod tensors;

use candle_core::Tensor;
use cope_convert::gguf::Value;
use cope_convert::{Adapter, Matrix};
use cope_llama::llama::{Boundary, Context, Special};
use cope_llama::train::dpo::{DpoConfig, pair_logps, pair_loss};
use cope_llama::train::fit::StepLoss;
use cope_llama::train::lora::Lora;
use cope_llama::train::model::TrainModel;
use cope_llama::train::packing::PackedBatch;
use cope_llama::train::{Encoded, EncodedPair, TrainConfig, WeightType, sft};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Fixture, exact};
use crate::tiny::{FAMILIES, Size, TinyModel, tiny_adapter};

/// The number of mutated files of a family: a part of the many that `make mutations` tries.
fn n_mutations() -> usize {
    let n = std::env::var("COPE_MUTATIONS");
    n.map_or(500, |n| n.parse().expect("COPE_MUTATIONS is a number"))
}

/// Asserts that mutated files of the families have no faults, of which `faults` makes a list for one family. Each family has
/// a thread of its own.
fn assert_no_faults(families: &[&'static str], faults: fn(&'static str) -> Vec<String>) {
    /// The most faults that are shown.
    const SHOWN: usize = 30;
    let faults: Vec<String> = std::thread::scope(|scope| {
        let families = families
            .iter()
            .map(|&family| scope.spawn(move || faults(family)));
        let families: Vec<_> = families.collect();
        let faults = families.into_iter().map(|family| family.join().unwrap());
        faults.flatten().collect()
    });
    let shown = &faults[..faults.len().min(SHOWN)];
    assert!(faults.is_empty(), "{}: {shown:#?}", faults.len());
}

/// A tiny model, loaded for training, and token sequences for it.
struct Tiny {
    kind: TinyModel,
    fixture: Fixture,
    model: TrainModel,
}

impl Tiny {
    fn new() -> Self {
        Self::of(TinyModel::default())
    }

    fn of(kind: TinyModel) -> Self {
        let fixture = Fixture::of(kind);
        let model = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
        Self {
            kind,
            fixture,
            model,
        }
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

/// A tiny model of each family, a second `llama` with an output head of its own and Llama 3's rotary factors, a second
/// `gemma4` that is like its larger models, and models whose queries, keys and values are one matrix.
fn families() -> Vec<Tiny> {
    let llama3 = TinyModel {
        tied: false,
        rope_factors: true,
        ..TinyModel::default()
    };
    let fused = |architecture| TinyModel {
        architecture,
        fused: true,
        ..TinyModel::default()
    };
    let family = |architecture| TinyModel {
        architecture,
        ..TinyModel::default()
    };
    let large = TinyModel {
        size: Size::Large,
        tied: false,
        ..family("gemma4")
    };
    FAMILIES
        .into_iter()
        .map(family)
        .chain([llama3, large])
        .chain(["llama", "qwen2", "olmo2"].map(fused))
        .map(Tiny::of)
        .collect()
}

fn all_targets(tiny: &Tiny) -> Adapter {
    tiny.kind.adapter(3, 4, tiny.kind.linears())
}

fn lora(tiny: &Tiny, adapter: &Adapter) -> Lora {
    Lora::from_adapter(adapter, tiny.model.shape()).unwrap()
}

/// An adapter in training on all targets.
fn full_lora(tiny: &Tiny) -> Lora {
    lora(tiny, &all_targets(tiny))
}

/// The logits that training computes, `[t, n_vocab]`.
pub fn train_logits(model: &TrainModel, tokens: &[i32], lora: Option<&Lora>) -> Vec<f32> {
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
fn logits_agree_with_llama_cpp() {
    for tiny in families() {
        let adapter = all_targets(&tiny);
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

        // ggml reads GELU from a table in half precision. With the same rounding here, the logits differ by 1e-5.
        let tolerance = match adapter.architecture.as_str() {
            "gemma2" | "gemma3" | "gemma4" => 5e-3,
            _ => 1e-3,
        };
        let check = |lora: Option<&Lora>, theirs: &[f32]| {
            let ours = train_logits(&tiny.model, &tokens, lora);
            let error = largest_difference(&ours, theirs);
            assert!(error < tolerance, "{}: {error}", adapter.architecture);
        };
        check(None, &base);
        check(Some(&lora(&tiny, &adapter)), &user);
        // A missing adapter would fail the comparison.
        assert!(largest_difference(&base, &user) > 0.1);
    }
}

/// The model of 46 blocks is the only one of its family whose scores are divided by another number than the others'.
#[test]
fn logits_of_as_many_blocks_as_gemma_2_27b_has_agree_with_llama_cpp() {
    for n_layer in [45, 46] {
        let fixture = Fixture::of(TinyModel {
            architecture: "gemma2",
            n_layer: Some(n_layer),
            ..TinyModel::default()
        });
        let tokens: Vec<_> = (0..12).map(|n| 20 + n * 7 % 300).collect();
        let mut context = Context::new(&fixture.model, None, &exact()).unwrap();
        let theirs = context.extend_all(&tokens).unwrap();
        let model = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
        let error = largest_difference(&train_logits(&model, &tokens, None), &theirs);
        assert!(error < 0.1, "{n_layer} blocks: {error}");
    }
}

/// `YaRN` with several factors and lengths, in each family.
#[test]
fn logits_with_yarn_agree_with_llama_cpp() {
    for architecture in FAMILIES {
        let tiny = TinyModel {
            architecture,
            ..TinyModel::default()
        };
        let mut all = Vec::new();
        for (factor, n_ctx, attn_factor) in [(1.0, 512, 1.0), (4.0, 64, 1.0), (3.0, 40, 1.2)] {
            let settings = [
                ("rope.scaling.type", Value::from("yarn")),
                ("rope.scaling.factor", Value::F32(factor)),
                ("rope.scaling.original_context_length", Value::U32(n_ctx)),
                ("rope.scaling.attn_factor", Value::F32(attn_factor)),
            ];
            let fixture = Fixture::edited(tiny, |metadata| {
                for (name, value) in settings {
                    let key = format!("{architecture}.{name}");
                    metadata.retain(|it| it.0 != key);
                    metadata.push((key, value));
                }
            });
            let tokens: Vec<_> = (0..60).map(|n| 20 + n * 7 % 300).collect();
            let mut context = Context::new(&fixture.model, None, &exact()).unwrap();
            let mut theirs = Vec::new();
            for tokens in tokens.chunks(16) {
                theirs.extend(context.extend_all(tokens).unwrap());
            }
            let model = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
            let ours = train_logits(&model, &tokens, None);
            let error = largest_difference(&ours, &theirs);
            // GELU is read from a table in half precision.
            let tolerance = if architecture.starts_with("gemma") {
                2e-2
            } else {
                2e-3
            };
            assert!(error < tolerance, "{architecture}, {factor}: {error}");
            all.push(theirs);
        }
        // Both would agree too if neither scaled anything.
        assert!(largest_difference(&all[0], &all[1]) > 0.1, "{architecture}");
        assert!(largest_difference(&all[1], &all[2]) > 0.1, "{architecture}");
    }
}

#[test]
fn a_model_with_a_task_adapter_agrees_with_llama_cpp() {
    let tiny = Tiny::new();
    let task = tiny_adapter(8, 2, &["attn_q", "attn_output", "ffn_down"]);
    let user = all_targets(&tiny);
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
        let model = TrainModel::load_with_task(
            &tiny.fixture.base,
            weight_type,
            Some(&task),
            None,
            &mut || Ok(()),
        )
        .unwrap();
        // Quantised weights are multiplied in bf16.
        let tolerance = match weight_type {
            WeightType::F32 => 1e-3,
            _ => 0.2,
        };
        let base = train_logits(&model, &tokens, None);
        assert!(largest_difference(&base, &theirs(&task)) < tolerance);
        let with_user = train_logits(&model, &tokens, Some(&lora(&tiny, &user)));
        assert!(largest_difference(&with_user, &theirs(&stacked)) < tolerance);
        assert!(largest_difference(&base, &train_logits(&tiny.model, &tokens, None)) > 0.5);
    }
}

#[test]
fn sharing_the_rows_of_a_prompt_changes_no_log_probability() {
    families().iter().for_each(check_shared_prompt);
}

/// Compares a batch whose responses share their prompt, and one whose prompts share their prefix too, with one that
/// shares nothing.
fn check_shared_prompt(tiny: &Tiny) {
    let lora = full_lora(tiny);
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

    // All agree with the softmax of the logits of the whole sequence.
    let pair = &pairs[0];
    let whole = [pair.prompt.as_slice(), &pair.chosen].concat();
    let logits = train_logits(&tiny.model, &whole, Some(&lora));
    let n_vocab = tiny.model.shape().n_vocab;
    for (i, (&token, logprob)) in pair.chosen.iter().zip(logprobs(&shared)).enumerate() {
        let row = pair.prompt.len() - 1 + i;
        let row = &logits[row * n_vocab..(row + 1) * n_vocab];
        let log_norm = row.iter().map(|z| f64::from(*z).exp()).sum::<f64>().ln();
        assert!((f64::from(row[token as usize]) - log_norm - f64::from(logprob)).abs() < 1e-4);
    }
}

/// Checks the gradient of every LoRA matrix, in a random direction `d`, against the central difference
/// `(loss(θ + hd) − loss(θ − hd)) / 2h`.
fn check_gradients(tiny: &Tiny, loss_of: impl Fn(&Lora) -> StepLoss) {
    const STEP: f32 = 5e-4;
    let adapter = all_targets(tiny);
    let loss = |lora: &Lora| loss_of(lora).loss;
    let value =
        |adapter: &Adapter| f64::from(loss(&lora(tiny, adapter)).to_scalar::<f32>().unwrap());
    let trained = lora(tiny, &adapter);
    let gradients = loss(&trained).backward().unwrap();
    let variables = trained.variables();
    assert_eq!(variables.len(), 2 * adapter.tensors.len());
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (name, variable) in &variables {
        let gradient: Vec<f32> = gradients
            .get(variable)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        // A random direction may be almost at right angles to the gradient; the next one is not.
        let is_checked = (0..4).any(|_| {
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
            // The loss has an error of about 5e-7, so the difference quotient has one of a few thousandths.
            assert!(
                (got - expected).abs() < 0.01 * expected.abs() + 4e-3,
                "{name}: {got}, expected {expected}"
            );
            expected.abs() > 1e-2
        });
        assert!(
            is_checked,
            "{name}: the gradient is too small for the check to mean anything"
        );
    }
}

/// The matrix of the variable `name`, `<tensor>.lora_a` or `<tensor>.lora_b`.
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
        check_gradients(&tiny, |lora| {
            sft::batch_loss(&tiny.model, lora, &examples).unwrap()
        });
    }
}

#[test]
fn gradients_with_dropout_are_finite_differences() {
    let tiny = Tiny::new();
    let examples = tiny.examples();
    check_gradients(&tiny, |lora| {
        sft::batch_loss(&tiny.model, &lora.dropping(0.3, 7, 1), &examples).unwrap()
    });
}

#[test]
fn dpo_gradients_are_finite_differences() {
    let tiny = Tiny::new();
    let pairs = tiny.pairs();
    let pairs: Vec<_> = pairs.iter().collect();
    let base_logps = pair_logps(&tiny.model, None, &pairs, &mut || Ok(())).unwrap();
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
        check_gradients(&tiny, |lora| {
            pair_loss(&tiny.model, lora, &pairs, &base_logps, &config).unwrap()
        });
    }
}

/// The gradients of the loss of SFT, see [`gradients_of`].
pub fn gradients(model: &TrainModel, lora: &Lora, examples: &[Encoded]) -> Vec<f32> {
    gradients_of(lora, &sft::batch_loss(model, lora, examples).unwrap().loss)
}

/// The gradients of all LoRA matrices, one after the other.
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
fn recomputing_activations_changes_no_gradient() {
    for tiny in families() {
        let (examples, lora) = (tiny.examples(), full_lora(&tiny));
        let kept = gradients(&tiny.model, &lora, &examples);
        let model = TrainModel::load(&tiny.fixture.base, WeightType::F32).unwrap();
        assert_eq!(kept, gradients(&model.recomputing(true), &lora, &examples));
    }
}
