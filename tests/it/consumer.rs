//! An adapter of ours in a program that is not ours: the prebuilt llama.cpp of the Python wheel `xllamacpp`, by
//! `tests/golden/consumer.py`.
//!
//! Two builds of llama.cpp round differently, so their greedy texts may part where the two best tokens are close. How
//! close is measured, as the largest difference of a margin (best token over second best) that the builds show where
//! they agree.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use cope_convert::gguf::Gguf;
use cope_llama::home::{BaseRef, Home, UserName};
use cope_llama::llama::{Context, ContextOptions, LoraAdapter, Model, Token};
use cope_llama::profile::{Part, Profile, jsonl};
use cope_llama::prompt::{ChatTemplate, Message};
use cope_llama::train::{Stage, TrainConfig, train};
use serde_json::{Value, json};

use crate::default_model;
use crate::fixture::greedy;

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
    profile.add(Part::History, history[..24].to_vec());
    user.save_profile(&profile).unwrap();
    let base = BaseRef {
        file: path.display().to_string(),
        sha256: cope_convert::sha256(&path).unwrap(),
        architecture: "llama".into(),
    };
    let mut config = TrainConfig::default();
    config.sft.epochs = 2;
    train(&user, &path, &base, &config, &[Stage::Sft], &mut |_| Ok(())).unwrap();
    user.sft()
}

/// By how much the best of a row of logits exceeds the second best.
fn margin(logits: &[f32]) -> f64 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|x, y| y.total_cmp(x));
    f64::from(sorted[0]) - f64::from(sorted[1])
}

/// The margins at each of `tokens` after `prompt`.
fn margins(context: &mut Context, prompt: &[Token], tokens: &[Token]) -> Vec<f64> {
    context.truncate(0);
    context.extend(prompt).unwrap();
    let margin_then = |&token: &Token| {
        let margin = margin(context.logits());
        context.extend(&[token]).unwrap();
        margin
    };
    tokens.iter().map(margin_then).collect()
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
        let tokens: Vec<Token> = serde_json::from_value(answer["tokens"].clone()).unwrap();
        let their_margins: Vec<f64> = serde_json::from_value(answer["margins"].clone()).unwrap();
        // Theirs has the token that ends the answer; ours stops before it.
        let text: Vec<Token> = tokens
            .iter()
            .copied()
            .take_while(|&token| !model.is_eog(token))
            .collect();
        let ours = greedy(&mut user, prompt, text.len());
        let same = ours
            .iter()
            .zip(&text)
            .take_while(|(ours, theirs)| ours == theirs)
            .count();
        changed += usize::from(greedy(&mut base, prompt, text.len()) != ours);
        agreed += same;
        let our_margins = margins(&mut user, prompt, &ours);
        let pairs = our_margins.iter().zip(&their_margins);
        difference = pairs
            .clone()
            .take(same)
            .map(|(x, y)| (x - y).abs())
            .fold(difference, f64::max);
        if same < text.len() {
            partings.push(
                our_margins
                    .get(same)
                    .copied()
                    .unwrap_or(0.0)
                    .max(their_margins[same]),
            );
        }
    }
    println!(
        "{agreed} tokens agree, margins to {difference:.3}; the texts part at margins {partings:?}"
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
