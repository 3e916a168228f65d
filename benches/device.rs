//! Measures the build without training, for small devices: its size, the memory of a chat, and whether it gives the
//! same answers on 64-bit ARM, under qemu, as here, from the files of a bundle.
//!
//! ```text
//! make bench-device                 # builds the programs first
//! ```
//!
//! It fails if the memory is more than is promised, or if ARM's text differs by more than rounding.

mod alice;
mod process;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use alice::{Alice, PROGRAM};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use process::memory_mb;
use serde::Deserialize;

/// The most memory that a chat with caches of 8 bits may take, in MB.
const MOST_MB: f64 = 250.0;

/// The contrast α of all answers.
const CONTRAST: f64 = 0.3;

#[derive(Parser)]
struct Options {
    /// The base [default: that of `model pull`]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// The build for 64-bit ARM
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/aarch64-unknown-linux-gnu/release/cope-llama"))]
    aarch64: PathBuf,
    /// The emulator that runs it here
    #[arg(long, default_value = "qemu-aarch64-static")]
    runner: String,
    /// The number of prompts that both answer
    #[arg(long, default_value_t = 3)]
    prompts: usize,
    /// The most tokens of an answer
    #[arg(long, default_value_t = 24)]
    predict: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let alice = Alice::import(options.model.as_ref())?;
    let bundle = alice.home.path().join("bundle");
    let bundle_name = bundle.to_string_lossy().into_owned();
    alice.run(&["train", "alice", "-m", &alice.base])?;
    alice.run(&["bundle", "--user", "alice", &bundle_name])?;
    // Held-out prompts, which training has not seen.
    let prompts = alice.folder.profile()?.held_out.into_iter();
    let prompts = prompts.filter_map(|mut example| example.prompt.pop());
    let prompts: Vec<String> = prompts.map(|message| message.content).collect();
    report_size_and_memory(&options, &alice, &prompts)?;

    let here = Device {
        command: vec![PROGRAM.to_owned()],
        folder: bundle.clone(),
    };
    let arm = Device {
        command: vec![
            options.runner.clone(),
            options.aarch64.display().to_string(),
        ],
        folder: bundle,
    };
    let prompts = &prompts[..prompts.len().min(options.prompts)];
    compare_answers(&here, &arm, prompts, options.predict)
}

/// Prints the sizes of the programs and the peak memory of a chat, and fails if the memory is more than [`MOST_MB`].
fn report_size_and_memory(options: &Options, alice: &Alice, prompts: &[String]) -> Result<()> {
    println!("| | MB |\n|---|---|");
    for (name, path) in [
        ("with training and server", Path::new(PROGRAM)),
        ("chat alone, for 64-bit ARM", &options.aarch64),
    ] {
        println!(
            "| program, {name} | {:.1} |",
            megabytes(std::fs::metadata(path)?.len())
        );
    }
    let peak = peak_of_chat(alice, prompts)?;
    println!("| peak of a chat, caches of q8_0, 2,048 tokens | {peak:.0} |\n");
    ensure!(peak < MOST_MB, "a chat takes more than {MOST_MB} MB");
    Ok(())
}

/// Prints the answers of both devices side by side, and fails if they differ by more than rounding.
fn compare_answers(
    here: &Device,
    arm: &Device,
    prompts: &[String],
    n_predict: usize,
) -> Result<()> {
    println!(
        "| prompt | tokens | alike | where they part: score here, score on ARM |\n|---|---|---|---|"
    );
    let mut parted = Vec::new();
    let mut epsilon: f64 = 0.0;
    for prompt in prompts {
        let (one, other) = (
            here.answer(prompt, n_predict)?,
            arm.answer(prompt, n_predict)?,
        );
        let pairs = one.choices.iter().zip(&other.choices);
        let n_alike = pairs
            .clone()
            .take_while(|(one, other)| one.token == other.token)
            .count();
        for (one, other) in pairs.take(n_alike) {
            epsilon = epsilon.max((one.score() - other.score()).abs());
        }
        let parting = one.choices.get(n_alike).zip(other.choices.get(n_alike));
        let parting = parting.map(|(one, other)| [one.score(), other.score()]);
        let shown = parting.map_or("–".to_owned(), |[x, y]| format!("{x:.3}, {y:.3}"));
        println!("| {prompt} | {} | {n_alike} | {shown} |", one.choices.len());
        parted.extend(parting);
    }
    println!("\nε, the most by which the score of the same token differs: {epsilon:.3}");
    // Where the answers part, each device chose the token with the best score by its own numbers. Rounding explains
    // that if the two scores are no farther apart than the scores of equal tokens.
    let is_rounding = |[x, y]: &[f64; 2]| (x - y).abs() <= epsilon;
    ensure!(
        parted.iter().all(is_rounding),
        "ARM's text differs by more than rounding"
    );
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The peak memory of a chat in MB; its first message fills most of the context.
fn peak_of_chat(alice: &Alice, prompts: &[String]) -> Result<f64> {
    let mut chat = Command::new(PROGRAM)
        .args([
            "chat",
            "--user",
            "alice",
            "--cache-type",
            "q8_0",
            "-n",
            "96",
        ])
        .env("COPE_HOME", alice.home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = chat.stdin.take().context("a pipe")?;
    writeln!(stdin, "{}", "The letters of my friend. ".repeat(300))?;
    writeln!(stdin, "{}", prompts[0])?;
    drop(stdin);
    let process = chat.id().to_string();
    let mut peak = 0.0;
    while chat.try_wait()?.is_none() {
        // If the process has ended since `try_wait`, the last figure stays.
        peak = memory_mb(&process, "VmHWM").unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(chat.wait()?.success(), "the chat failed");
    Ok(peak)
}

/// A device with a bundle: the command that runs the program on it, and the bundle's folder.
struct Device {
    command: Vec<String>,
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    token: i32,
    p_user: f64,
    p_base: f64,
}

impl Choice {
    fn score(&self) -> f64 {
        self.p_user.ln() - CONTRAST * self.p_base.ln()
    }
}

impl Device {
    fn answer(&self, prompt: &str, n_predict: usize) -> Result<Answer> {
        let contrast = CONTRAST.to_string();
        let n_predict = n_predict.to_string();
        let output = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args([
                "generate",
                "-m",
                "base.gguf",
                "--lora",
                "adapter.gguf",
                "-p",
                prompt,
            ])
            .args([
                "--contrast",
                &contrast,
                "-n",
                &n_predict,
                "--json",
                "--explain",
            ])
            .current_dir(&self.folder)
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{:?}: {error}", self.command);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
