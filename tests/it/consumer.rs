//! An adapter of ours in a program that is not ours: the prebuilt llama.cpp of the Python wheel `xllamacpp`, by
//! `tests/golden/consumer.py`.
//!
//! Two builds of llama.cpp round differently, so their greedy texts may part where the two best tokens are close. How
//! close is measured: along the other program's texts, the largest difference between the builds in the margin of its
//! token over its second best, at all positions but those where the texts part.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use cope_convert::gguf::Gguf;
use cope_llama::home::{BaseRef, Home, Stage, UserName};
use cope_llama::llama::{Context, ContextOptions, LoraAdapter, Model, Rows, Token};
use cope_llama::message::Message;
use cope_llama::profile::{HistoryPart, Profile, jsonl};
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
const N_PREDICT: usize = 48;

/// The Python of the virtual environment with `xllamacpp`, which `make test` makes.
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

/// A short SFT on the demo history: enough that the adapter changes what the model says.
fn trained_adapter(folder: &std::path::Path) -> PathBuf {
    let path = default_model::path();
    let history = jsonl::parse(
        "history.jsonl".as_ref(),
        include_bytes!("../../models/alice/history.jsonl"),
    )
    .unwrap();
    let user = Home::at(folder)
        .create_user(UserName::new("alice").unwrap())
        .unwrap();
    let mut profile = Profile::default();
    profile.add(HistoryPart::History, history[..24].to_vec());
    user.save_profile(&profile).unwrap();
    let base = BaseRef {
        file: path.display().to_string(),
        sha256: cope_convert::sha256(&path).unwrap(),
        architecture: "llama".into(),
        task_sha256: None,
    };
    // On every machine the same adapter.
    let mut config = TrainConfig {
        weight_type: WeightType::F32,
        ..TrainConfig::default()
    };
    config.sft.epochs = 2;
    let training = Training {
        folder: &user,
        base_path: &path,
        base: &base,
        config: &config,
        stages: &[Stage::Sft],
    };
    train(training, &mut |_| Ok(())).unwrap();
    user.sft()
}

/// What the other program says at one position.
struct Position {
    token: Token,
    runner_up: Token,
    /// By how much the runner-up is below the token, nats.
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

/// Ours at the same position: the margin of the same two tokens, and how far their token is below our best.
fn ours_at(logits: &[f32], position: &Position) -> (f64, f64) {
    let logit = |token: Token| f64::from(logits[token as usize]);
    let chosen = logit(position.token);
    (
        chosen - logit(position.runner_up),
        logit(best(logits)) - chosen,
    )
}

#[test]
fn another_llama_cpp_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = trained_adapter(folder.path());
    let model: Arc<Model> = default_model::load();
    let template = ChatTemplate::of_model(&model).unwrap();
    let prompts: Vec<Vec<Token>> = PROMPTS
        .iter()
        .map(|prompt| {
            template
                .prompt_tokens(&model, &[Message::user(*prompt)])
                .unwrap()
        })
        .collect();
    let file = folder.path().join("prompts.json");
    std::fs::write(&file, json!(prompts).to_string()).unwrap();

    let output = Command::new(python())
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/consumer.py"
        ))
        .args([&default_model::path(), &adapter, &file])
        .args(["--predict", &N_PREDICT.to_string()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();

    let gguf = Gguf::open(&default_model::path()).unwrap();
    let sha256 = cope_convert::sha256(&default_model::path()).unwrap();
    let lora = LoraAdapter::load(&model, &adapter, &gguf, &sha256).unwrap();
    let options = ContextOptions {
        n_ctx: 512,
        ..ContextOptions::default()
    };
    let mut base = Context::new(&model, None, &options).unwrap();
    let mut user = Context::new(&model, Some((lora, 1.0)), &options).unwrap();

    let (mut agreed, mut changed, mut partings, mut difference) = (0, 0, Vec::new(), 0.0f64);
    for (prompt, answer) in prompts.iter().zip(theirs["answers"].as_array().unwrap()) {
        let answer = positions(answer);
        changed += usize::from(greedy(&mut base, prompt, 8) != greedy(&mut user, prompt, 8));
        // Both builds along their text, past the place where ours would have gone another way.
        user.truncate(0);
        user.extend(prompt, 1, Rows::Full).unwrap();
        let mut parted = false;
        for position in &answer {
            let (margin, below_best) = ours_at(user.logits(), position);
            if below_best > 0.0 && !parted {
                parted = true;
                partings.push(position.margin.max(below_best));
            } else {
                difference = difference.max((margin - position.margin).abs());
            }
            agreed += usize::from(!parted);
            user.extend(&[position.token], 1, Rows::Full).unwrap();
        }
    }
    println!(
        "{agreed} tokens agree; margins differ by up to {difference:.3}; the texts part at margins {partings:.3?}"
    );
    assert!(
        changed >= 4,
        "the adapter changed only {changed} of 5 answers"
    );
    assert!(agreed >= 60, "only {agreed} tokens agree");
    assert!(
        difference < 1.0,
        "the two builds differ by {difference} nats"
    );
    assert!(
        partings.iter().all(|margin| *margin <= difference),
        "parted at {partings:?}, beyond {difference}"
    );
}
