//! Runs one of our adapters in another program: the prebuilt llama.cpp of the Python wheel `xllamacpp`, driven by
//! `tests/golden/consumer.py`.
//!
//! Two builds of llama.cpp round differently, so their greedy texts may part where the two best tokens have close logits.
//! The tolerance is measured: along the other program's texts, it is the largest difference between the builds in the
//! margin of the chosen token over the second-best one, at all positions except those where the texts part.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cope_convert::gguf::Gguf;
use cope_llama::home::{BaseRef, Home, Stage, UserName};
use cope_llama::llama::{Context, ContextOptions, LoraAdapter, Model, Rows, Token};
use cope_llama::message::Message;
use cope_llama::profile::{HistoryPart, Profile, json};
use cope_llama::prompt::ChatTemplate;
use cope_llama::train::{TrainConfig, Training, WeightType, train};
use serde_json::{Value, json};

use crate::default_model;
use crate::fixture::{best, greedy};

const PROMPTS: [&str; 5] = [
    "Write a note to the neighbours about the street party.",
    "Write a short review of a garden rake.",
    "Reply to: Are you coming to the meeting on Monday?",
    "Give a title for a talk about old bicycles.",
    "What do you think of instant coffee?",
];
const N_PREDICT: usize = 32;

/// The Python interpreter of the virtual environment with `xllamacpp`, which `make test` creates.
fn python() -> PathBuf {
    let python = std::env::var_os("COPE_ORACLE_PYTHON").map(PathBuf::from);
    let python = python
        .expect("COPE_ORACLE_PYTHON is not set: `make test` makes the environment and sets it");
    assert!(
        python.exists(),
        "{} is missing: `make test` makes it",
        python.display()
    );
    python
}

/// Trains a short SFT on the demo history, enough for the adapter to change the model's answers.
fn trained_adapter(folder: &Path) -> PathBuf {
    let path = default_model::path();
    let history = json::parse(
        "history.jsonl".as_ref(),
        include_bytes!("../../models/alice/history.jsonl"),
    )
    .unwrap()
    .examples;
    let user = Home::at(folder)
        .create_user(UserName::new("alice").unwrap())
        .unwrap();
    let mut profile = Profile::default();
    profile.add(HistoryPart::History, history[..12].to_vec());
    user.save_profile(&profile).unwrap();
    let base = BaseRef {
        file: path.display().to_string(),
        sha256: cope_convert::sha256(&path).unwrap(),
        architecture: "llama".into(),
        task_sha256: None,
    };
    // With f32 weights every machine trains the same adapter.
    let mut config = TrainConfig {
        weight_type: WeightType::F32,
        replay: Some(0.0),
        ..TrainConfig::default()
    };
    config.sft.epochs = 2;
    let training = Training {
        folder: &user,
        base_path: &path,
        base: &base,
        config: &config,
        stages: &[Stage::Sft],
        stop: None,
    };
    train(training, &mut |_| Ok(())).unwrap();
    user.sft()
}

/// The other program's two best tokens at one position.
struct Position {
    token: Token,
    runner_up: Token,
    /// The log-probability of the token minus that of the runner-up, in nats.
    margin: f64,
}

fn positions(answer: &Value) -> Vec<Position> {
    let ids = |name: &str| serde_json::from_value::<Vec<Token>>(answer[name].clone()).unwrap();
    let margins: Vec<f64> = serde_json::from_value(answer["margins"].clone()).unwrap();
    let tokens = ids("tokens").into_iter().zip(ids("runners_up"));
    let position = |((token, runner_up), margin)| Position {
        token,
        runner_up,
        margin,
    };
    tokens.zip(margins).map(position).collect()
}

/// Our logits at the same position: the margin of the same two tokens, and how far their token is below our best one.
fn ours_at(logits: &[f32], position: &Position) -> (f64, f64) {
    let logit = |token: Token| f64::from(logits[token as usize]);
    let chosen = logit(position.token);
    (
        chosen - logit(position.runner_up),
        logit(best(logits)) - chosen,
    )
}

/// The answers of the other program to `prompts`, by position.
fn their_answers(folder: &Path, adapter: &Path, prompts: &[Vec<Token>]) -> Vec<Vec<Position>> {
    let file = folder.join("prompts.json");
    std::fs::write(&file, json!(prompts).to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/consumer.py");
    let output = Command::new(python())
        .arg(script)
        .args([default_model::path().as_path(), adapter, &file])
        .args(["--predict", &N_PREDICT.to_string()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let answers = theirs["answers"].as_array().unwrap();
    answers.iter().map(positions).collect()
}

/// How our build compares with the other program's answers.
#[derive(Default)]
struct Comparison {
    /// Tokens before the texts part.
    n_agreed: usize,
    /// The larger of both builds' margins at each position where the texts part, in nats.
    partings: Vec<f64>,
    /// The largest difference of the margins elsewhere, in nats.
    difference: f64,
}

impl Comparison {
    /// Our build follows their text, also after the position where it would have chosen another token.
    fn follow(&mut self, user: &mut Context, prompt: &[Token], answer: &[Position]) {
        user.truncate(0);
        user.extend(prompt, 1, Rows::Full).unwrap();
        let mut parted = false;
        for position in answer {
            let (margin, below_best) = ours_at(user.logits(), position);
            if below_best > 0.0 && !parted {
                parted = true;
                self.partings.push(position.margin.max(below_best));
            } else {
                self.difference = self.difference.max((margin - position.margin).abs());
            }
            self.n_agreed += usize::from(!parted);
            user.extend(&[position.token], 1, Rows::Full).unwrap();
        }
    }
}

#[test]
fn another_build_of_llama_cpp_gives_the_same_texts_up_to_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = trained_adapter(folder.path());
    let model: Arc<Model> = default_model::load();
    let template = ChatTemplate::of_model(&model).unwrap();
    let tokens = |prompt: &&str| template.prompt_tokens(&model, &[Message::user(*prompt)]);
    let prompts: Vec<Vec<Token>> = PROMPTS
        .iter()
        .map(|prompt| tokens(prompt).unwrap())
        .collect();
    let answers = their_answers(folder.path(), &adapter, &prompts);

    let gguf = Gguf::open(&default_model::path()).unwrap();
    let sha256 = cope_convert::sha256(&default_model::path()).unwrap();
    let lora = LoraAdapter::load(&model, &adapter, &gguf, &sha256).unwrap();
    let options = ContextOptions {
        n_ctx: 512,
        ..ContextOptions::default()
    };
    let mut base = Context::new(&model, None, &options).unwrap();
    let mut user = Context::new(&model, Some((lora, 1.0)), &options).unwrap();

    let (mut changed, mut compared) = (0, Comparison::default());
    for (prompt, answer) in prompts.iter().zip(&answers) {
        changed += usize::from(greedy(&mut base, prompt, 8) != greedy(&mut user, prompt, 8));
        compared.follow(&mut user, prompt, answer);
    }
    let Comparison {
        n_agreed,
        partings,
        difference,
    } = compared;
    println!(
        "{n_agreed} tokens agree; margins differ by up to {difference:.3}; the texts part at margins {partings:.3?}"
    );
    assert!(
        changed >= 4,
        "the adapter changed only {changed} of 5 answers"
    );
    assert!(n_agreed >= 60, "only {n_agreed} tokens agree");
    assert!(
        difference < 1.0,
        "the two builds differ by {difference} nats"
    );
    assert!(
        partings.iter().all(|margin| *margin <= difference),
        "parted at {partings:?}, beyond {difference}"
    );
}
