//! The log-probabilities of another build of llama.cpp with an adapter of ours.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use cope_llama::llama::Token;
use serde::Deserialize;
use serde_json::json;

use super::N_CTX;
use crate::Options;

/// The answers of `tests/golden/consumer.py`.
#[derive(Deserialize)]
struct Answers {
    answers: Vec<FirstToken>,
}

#[derive(Deserialize)]
struct FirstToken {
    tokens: Vec<Token>,
    margins: Vec<f64>,
    runners_up: Vec<Token>,
}

/// The largest difference, in nats, between the margin of its greedy first token after each text over the second best, and the
/// margin of the same tokens by `logits`, which are ours.
pub fn difference(
    options: &Options,
    base: &Path,
    adapter: &Path,
    texts: &[Vec<Token>],
    logits: &[Vec<f32>],
) -> Result<f64> {
    let prompts = tempfile::NamedTempFile::new()?;
    std::fs::write(prompts.path(), json!(texts).to_string())?;
    let output = Command::new(&options.oracle)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/consumer.py"
        ))
        .args([base, adapter, prompts.path()])
        .args(["--predict", "1", "--ctx-size", &N_CTX.to_string()])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "consumer.py failed: {errors}");
    let answers: Answers = serde_json::from_slice(&output.stdout)?;
    ensure!(
        answers.answers.len() == texts.len(),
        "an answer to each text"
    );
    let mut most = 0.0_f64;
    for ((theirs, ours), text) in answers.answers.iter().zip(logits).zip(texts) {
        let last = &ours[ours.len() - ours.len() / text.len()..];
        let (Some(&first), Some(&second)) = (theirs.tokens.first(), theirs.runners_up.first())
        else {
            continue;
        };
        let margin = f64::from(last[first as usize] - last[second as usize]);
        most = most.max((margin - theirs.margins[0]).abs());
    }
    Ok(most)
}
