//! Training on the default model, against `transformers` and `peft`. The expected numbers are in
//! `tests/golden/peft.json`, which `tests/golden/peft.py` printed.

use std::sync::Arc;

use cope_convert::gguf::Gguf;
use cope_convert::{Adapter, LoraTensor, Matrix};
use cope_llama::llama::{
    Boundary, Context, ContextOptions, LoraAdapter, Model as Runtime, Special, Token,
};
use cope_llama::message::Message;
use cope_llama::prompt::{ChatTemplate, response_tokens};
use cope_llama::train::dpo::{pair_logps, pair_loss};
use cope_llama::train::fit::StepLoss;
use cope_llama::train::lora::{Lora, TargetModule};
use cope_llama::train::model::TrainModel;
use cope_llama::train::packing::PackedBatch;
use cope_llama::train::{AdamW, Encoded, EncodedPair, TrainConfig, WeightType, sft};
use serde_json::Value;

use crate::default_model;
use crate::training::gradients;

/// Rank of the adapter in `peft.py`.
const RANK: usize = 4;

/// The expected numbers, and the model that they are of.
struct Golden {
    json: Value,
    gguf: Gguf,
    model: TrainModel,
}

impl Golden {
    fn load() -> Self {
        let gguf = Gguf::open(&default_model::path()).unwrap();
        let json: Value = serde_json::from_str(include_str!("../golden/peft.json")).unwrap();
        assert_eq!(
            json["model_sha256"],
            cope_convert::sha256(&gguf.path).unwrap()
        );
        Self {
            json,
            model: TrainModel::load(&gguf, WeightType::F32).unwrap(),
            gguf,
        }
    }

    /// The adapter that `peft.py` starts from, by the same formula, in the row order of the GGUF file. `strength`
    /// scales its effect; `peft.py` has 1.
    fn adapter(&self, strength: f32) -> Adapter {
        let shape = self.model.shape();
        let mut tensors = Vec::new();
        let places = (0..shape.n_layer)
            .flat_map(|layer| TargetModule::ALL.map(|target| (layer, target)))
            .filter_map(|(layer, target)| Some((layer, target, shape.linear(layer, target)?)));
        for (t, (layer, target, (n_out, n_in))) in places.enumerate() {
            let t = t as f64 + 1.0;
            let a = |i: f64, j: f64| 0.02 * (0.37 * t + 1.3 * i + 0.011 * j).sin();
            let b = |o: f64, i: f64| {
                f64::from(strength) * 0.005 * (0.53 * t + 0.017 * o + 0.9 * i).cos()
            };
            tensors.push(LoraTensor {
                name: target.tensor_name(layer),
                a: matrix(RANK, n_in, a),
                b: matrix(n_out, RANK, b),
            });
        }
        tensors.sort_by(|x, y| x.name.cmp(&y.name));
        Adapter::new("llama", 8.0, tensors)
    }

    fn lora(&self) -> Lora {
        Lora::from_adapter(&self.adapter(1.0), self.model.shape()).unwrap()
    }

    fn pairs(&self) -> Vec<EncodedPair> {
        let pair = |item: &Value| EncodedPair {
            prompt: tokens(&item["prompt_tokens"]),
            chosen: tokens(&item["chosen_tokens"]),
            rejected: tokens(&item["rejected_tokens"]),
        };
        self.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(pair)
            .collect()
    }

    fn examples(&self) -> Vec<Encoded> {
        let example = |pair: EncodedPair| Encoded {
            prompt: pair.prompt,
            response: pair.chosen,
        };
        self.pairs().into_iter().map(example).collect()
    }

    /// Takes three steps of AdamW on one batch, and compares each with peft's: the loss, the gradient's norm and the
    /// metrics called `names`, and for the first step the gradient's norm of each matrix of block 0.
    fn check_steps(&self, stage: &str, names: &[&str], loss_of: impl Fn(&Lora) -> StepLoss) {
        let lora = self.lora();
        let expected = &self.json[stage];
        let mut optimizer = AdamW::new(lora.variables(), 0.01);
        for (step, expected_step) in expected["steps"].as_array().unwrap().iter().enumerate() {
            let StepLoss { loss, metrics, .. } = loss_of(&lora);
            let gradients = loss.backward().unwrap();
            if step == 0 {
                for (name, variable) in lora
                    .variables()
                    .iter()
                    .filter(|(name, _)| name.starts_with("blk.0."))
                {
                    let gradient = gradients
                        .get(variable)
                        .unwrap()
                        .sqr()
                        .unwrap()
                        .sum_all()
                        .unwrap();
                    let norm = f64::from(gradient.to_scalar::<f32>().unwrap()).sqrt();
                    let (target, side) = layer_0_name(name);
                    assert_close(
                        name,
                        norm,
                        &expected["first_grad_norms_of_layer_0"][target][side],
                        1e-3,
                        0.0,
                    );
                }
            }
            let value = f64::from(loss.to_scalar::<f32>().unwrap());
            let grad_norm = optimizer
                .update(optimizer.gradients(&gradients).unwrap(), 1e-3, 1.0)
                .unwrap();
            assert_close("loss", value, &expected_step["loss"], 1e-4, 0.0);
            assert_close(
                "grad_norm",
                grad_norm,
                &expected_step["grad_norm"],
                1e-3,
                0.0,
            );
            for &name in names {
                assert_close(name, metrics[name], &expected_step[name], 1e-3, 1e-5);
            }
        }
    }
}

fn matrix(rows: usize, cols: usize, value: impl Fn(f64, f64) -> f64) -> Matrix {
    let data = (0..rows * cols)
        .map(|n| value((n / cols) as f64, (n % cols) as f64) as f32)
        .collect();
    Matrix { rows, cols, data }
}

fn tokens(json: &Value) -> Vec<Token> {
    serde_json::from_value(json.clone()).unwrap()
}

/// `blk.0.attn_q.weight.lora_a` → `("q", "lora_a")`.
fn layer_0_name(variable: &str) -> (String, &str) {
    let (tensor, side) = variable.rsplit_once('.').unwrap();
    let target = TargetModule::ALL
        .into_iter()
        .find(|target| target.tensor_name(0) == tensor)
        .unwrap();
    let name = serde_json::to_value(target).unwrap();
    (name.as_str().unwrap().to_owned(), side)
}

fn assert_close(what: &str, got: f64, expected: &Value, relative: f64, absolute: f64) {
    let expected = expected
        .as_f64()
        .unwrap_or_else(|| panic!("no golden number for {what}"));
    let difference = (got - expected).abs();
    assert!(
        difference <= relative * expected.abs() + absolute,
        "{what}: {got}, expected {expected}"
    );
}

#[test]
fn prompts_and_tokens_agree_with_transformers() {
    let golden = Golden::load();
    let vocabulary = Runtime::load_vocabulary(&golden.gguf.path).unwrap();
    let template = ChatTemplate::of_model(&vocabulary).unwrap();
    let chats = golden.json["chats"].as_array().unwrap();
    assert!(!chats.is_empty());
    for chat in chats {
        let messages: Vec<Message> = serde_json::from_value(chat["messages"].clone()).unwrap();
        assert_eq!(
            template.render(&messages).unwrap(),
            chat["rendered"].as_str().unwrap()
        );
        assert_eq!(
            template.prompt_tokens(&vocabulary, &messages).unwrap(),
            tokens(&chat["prompt_tokens"])
        );
        let response = chat["response"].as_str().unwrap();
        assert_eq!(
            response_tokens(&vocabulary, response).unwrap(),
            tokens(&chat["response_tokens"])
        );
    }
}

#[test]
fn log_probabilities_agree_with_peft() {
    let golden = Golden::load();
    let batch = sft::batch(&golden.examples());
    for (policy, lora) in [("base", None), ("user", Some(golden.lora()))] {
        let ours = golden
            .model
            .logprobs(&batch, lora.as_ref())
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let theirs = golden.json["chosen_logprobs"][policy].as_array().unwrap();
        let theirs: Vec<&Value> = theirs
            .iter()
            .flat_map(|item| item.as_array().unwrap())
            .collect();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_close(policy, f64::from(*ours), theirs, 0.0, 1e-3);
        }
    }
}

#[test]
fn sft_steps_agree_with_peft() {
    let golden = Golden::load();
    let examples = golden.examples();
    golden.check_steps("sft", &[], |lora| {
        sft::batch_loss(&golden.model, lora, &examples).unwrap()
    });
}

#[test]
fn dpo_steps_agree_with_peft() {
    let golden = Golden::load();
    let pairs = golden.pairs();
    let config = TrainConfig::paper().dpo;
    let pairs: Vec<_> = pairs.iter().collect();
    let base_logps = pair_logps(&golden.model, None, &pairs, &mut || Ok(())).unwrap();
    let names = ["rewards/chosen", "rewards/rejected", "logps/chosen"];
    golden.check_steps("dpo", &names, |lora| {
        pair_loss(&golden.model, lora, &pairs, &base_logps, &config).unwrap()
    });
}

#[test]
fn weights_in_bf16_change_the_gradient_by_less_than_five_percent() {
    let golden = Golden::load();
    let (examples, lora) = (golden.examples(), golden.lora());
    let exact = gradients(&golden.model, &lora, &examples);
    let length = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
    for weight_type in [WeightType::Bf16, WeightType::Quantized] {
        let model = TrainModel::load(&golden.gguf, weight_type).unwrap();
        let rounded = gradients(&model, &lora, &examples);
        let difference = length(&mut exact.iter().zip(&rounded).map(|(x, y)| x - y));
        let off = (difference / length(&mut exact.iter().copied())).sqrt();
        println!("{weight_type:?}: {off}");
        assert!(off < 0.05, "{weight_type:?} is off by {off}");
    }
}

/// The text that the KL divergence from llama.cpp is measured on.
pub const PARAGRAPH: &str = "The ferry was late again, and the whole quay knew it before the harbour master did. Nets lay \
    drying over the rail, two dogs argued about a fish head, and somebody had left a ladder where the tide would find \
    it. By noon the fog had gone out to sea, the bakery had sold its last loaf, and the ferry came round the point with \
    its horn going, as if it were the town that had kept it waiting.";

#[test]
fn distributions_agree_with_llama_cpp() {
    let golden = Golden::load();
    let runtime = Runtime::load(&golden.gguf.path, None).unwrap();
    let tokens = runtime
        .tokenize(PARAGRAPH, Boundary::Omit, Special::Ignored)
        .unwrap();
    let adapter = golden.adapter(20.0);
    let lora = Lora::from_adapter(&adapter, golden.model.shape()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    adapter.write_gguf(&path).unwrap();
    let loaded = LoraAdapter::load(&runtime, &path, &golden.gguf, "").unwrap();

    let theirs = |adapter: Option<Arc<LoraAdapter>>| {
        let options = ContextOptions {
            n_ctx: 256,
            n_outputs: 256,
            ..ContextOptions::default()
        };
        let mut context = Context::new(&runtime, adapter.map(|a| (a, 1.0)), &options).unwrap();
        context.extend_all(&tokens).unwrap()
    };
    let ours = |lora: Option<&Lora>| {
        let mut batch = PackedBatch::default();
        batch.push(&tokens, []);
        golden.model.logits(&batch.rows, lora).unwrap()
    };
    let n_vocab = golden.model.shape().n_vocab;
    let base = mean_kl(&ours(None), &theirs(None), n_vocab);
    let user = mean_kl(&ours(Some(&lora)), &theirs(Some(loaded)), n_vocab);
    assert!(
        base <= 0.01 && user <= 0.01,
        "KL without adapter {base}, with adapter {user} nats a token"
    );
    // An adapter that is ignored would fail the comparison.
    let without = mean_kl(&ours(Some(&lora)), &ours(None), n_vocab);
    assert!(
        without > 5.0 * user.max(0.01),
        "the adapter changes no more than {without} nats a token"
    );
}

/// Mean `KL(p ‖ q)`, in nats a token, between the softmaxes of two matrices of logits, `[t, n_vocab]`.
pub fn mean_kl(p: &[f32], q: &[f32], n_vocab: usize) -> f64 {
    assert_eq!(p.len(), q.len());
    let logprobs = |row: &[f32]| -> Vec<f64> {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_norm = row
            .iter()
            .map(|z| f64::from(z - max).exp())
            .sum::<f64>()
            .ln();
        row.iter().map(|z| f64::from(z - max) - log_norm).collect()
    };
    let kl = |(p, q): (&[f32], &[f32])| -> f64 {
        logprobs(p)
            .iter()
            .zip(logprobs(q))
            .map(|(p, q)| p.exp() * (p - q))
            .sum()
    };
    let rows = p.chunks_exact(n_vocab).zip(q.chunks_exact(n_vocab));
    let n = rows.len() as f64;
    rows.map(kl).sum::<f64>() / n
}
