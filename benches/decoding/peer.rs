//! Comparison with the usual alternative: CoPe's decoding with transformers + peft (`peer.py`), with the same adapters on
//! the same prompts, in f32 and in bf16.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use cope_llama::decode::{Contrast, PassSchedule};
use cope_llama::llama::Token;
use serde::Deserialize;
use serde_json::json;

use crate::Options;
use crate::adapters::{Queries, Subject, subjects};
use crate::speed::options_of;

/// A task's answers, and the seconds that they took.
#[derive(Deserialize)]
struct Answers {
    seconds: f64,
    texts: Vec<Vec<Token>>,
}

impl Answers {
    /// Milliseconds per choice; an answer without tokens has one choice too, its end.
    fn ms_a_token(&self) -> f64 {
        let n_chosen: usize = self.texts.iter().map(|text| text.len() + 1).sum();
        self.seconds * 1e3 / n_chosen as f64
    }

    /// The mean number of equal tokens at the beginning of both answers.
    fn shared(&self, other: &Self) -> f64 {
        let texts = self.texts.iter().zip(&other.texts);
        let shared = texts.map(|(x, y)| x.iter().zip(y).take_while(|(x, y)| x == y).count());
        shared.sum::<usize>() as f64 / self.texts.len() as f64
    }
}

pub fn table(options: &Options) -> Result<()> {
    println!(
        "| model | task | peer in f32, ms a token | peer in bf16 | ours | the better of the peer's ÷ ours | tokens before ours part from the peer's in f32 |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut ratios = Vec::new();
    for path in options.models()? {
        let mut subjects = subjects(options, &path, Queries::Own)?;
        for subject in &mut subjects {
            subject.prompts.truncate(options.queries);
        }
        let peer = |dtype| peer(options, &path, &subjects, dtype);
        let (f32, bf16) = (peer("f32")?, peer("bf16")?);
        for (subject, (f32, bf16)) in subjects.iter_mut().zip(f32.iter().zip(&bf16)) {
            let ours = ours(options, subject)?;
            let best = f32.ms_a_token().min(bf16.ms_a_token());
            ratios.push(best / ours.ms_a_token());
            println!(
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
                path.file_stem().unwrap_or_default().to_string_lossy(),
                subject.task,
                f32.ms_a_token(),
                bf16.ms_a_token(),
                ours.ms_a_token(),
                best / ours.ms_a_token(),
                ours.shared(f32),
            );
        }
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    println!("\nThe better of the peer's ÷ ours, mean over models and tasks: {mean:.1}\n");
    Ok(())
}

fn ours(options: &Options, subject: &mut Subject) -> Result<Answers> {
    let decode_options = options_of(PassSchedule::default(), options.predict);
    let prompts = subject.prompts.clone();
    // The first pass of a context sizes its buffers.
    subject.answer(&prompts[0], &options_of(PassSchedule::NAIVE, 2))?;
    let started = Instant::now();
    let answer = |prompt: &Vec<Token>| Ok(subject.answer(prompt, &decode_options)?.0);
    let texts = prompts.iter().map(answer).collect::<Result<_>>()?;
    Ok(Answers {
        seconds: started.elapsed().as_secs_f64(),
        texts,
    })
}

/// The peer's answers, task by task.
fn peer(options: &Options, path: &Path, subjects: &[Subject], dtype: &str) -> Result<Vec<Answers>> {
    let scratch = tempfile::tempdir()?;
    let inputs = scratch.path().join("inputs.json");
    let model = &subjects.first().context("a task")?.model;
    let ends = (0..model.n_vocab() as Token).filter(|&token| model.is_eog(token));
    let contrast = Contrast::default();
    let tasks = subjects
        .iter()
        .map(|it| json!({ "adapter": it.adapter_path, "prompts": it.prompts }));
    let json = json!({
        "tasks": tasks.collect::<Vec<_>>(),
        "ends": ends.collect::<Vec<_>>(),
        "contrast": contrast.contrast(),
        "plausibility": contrast.plausibility(),
        "max_new_tokens": options.predict,
    });
    std::fs::write(&inputs, json.to_string())?;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/decoding/peer.py");
    let output = Command::new(&options.python)
        .arg(program)
        .arg(path)
        .arg(&inputs)
        .args(["--dtype", dtype])
        .output()
        .with_context(|| {
            format!(
                "cannot run {}: `make bench-decoding` installs it",
                options.python.display()
            )
        })?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the peer failed: {errors}");
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    let answers = lines
        .map(serde_json::from_str)
        .collect::<Result<Vec<Answers>, _>>()?;
    ensure!(answers.len() == subjects.len(), "an answer for each task");
    Ok(answers)
}
