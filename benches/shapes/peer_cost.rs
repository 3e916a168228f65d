//! Training beside transformers + peft with random weights in the same shape.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::Options;
use crate::published::Shape;
use crate::train_cost::sft;

/// The figures that the script of the peer prints.
#[derive(Deserialize)]
struct PeerRun {
    tokens_per_second: f64,
    peak_mb: f64,
}

/// Prints a row that compares the settings that our program chooses with the better of the peer's f32 and bf16.
pub fn row(options: &Options, shape: &Shape, name: &str, path: &Path) -> Result<()> {
    let ours = sft(options, path, &[])?;
    let ours_speed = ours.n_tokens / ours.seconds[0];
    let runs = ["float32", "bfloat16"].map(|dtype| peer(options, shape, dtype));
    for (dtype, run) in ["f32", "bf16"].iter().zip(runs) {
        let theirs = run?;
        println!(
            "| {name}, peer in {dtype} | {ours_speed:.1} | {:.1} | {:.2} | {:.0} | {:.0} | {:.2} |",
            theirs.tokens_per_second,
            ours_speed / theirs.tokens_per_second,
            ours.peak_mb,
            theirs.peak_mb,
            ours.peak_mb / theirs.peak_mb
        );
    }
    Ok(())
}

fn peer(options: &Options, shape: &Shape, dtype: &str) -> Result<PeerRun> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/shapes/random_peer.py");
    let number = |n: usize| n.to_string();
    let output = Command::new(&options.python)
        .args([script, shape.architecture, dtype])
        .args([shape.n_layer, shape.n_vocab, options.length, options.items].map(number))
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the peer failed: {errors}");
    serde_json::from_slice(&output.stdout).context("the peer's output")
}
