//! Training at a shape's sizes: tokens a second, peak memory, and the delta rule's part of the time.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use cope_llama::profile::{Example, json};
use cope_llama::train::ops::attention::Segment;
use cope_llama::train::ops::delta_rule::{DeltaHeads, DeltaInputs};
use cope_llama::train::ops::lineage::Lineage;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Options;
use crate::common::{Run, train};
use crate::published::Shape;

/// The options of the smallest memory.
const SMALLEST: [&str; 3] = ["--weights", "quantized", "--recompute"];

/// Prints a row for the fastest settings, and one for the smallest.
pub fn rows(options: &Options, shape: &Shape, name: &str, path: &Path) -> Result<()> {
    for (settings, memory) in [("as chosen", &[][..]), ("smallest", &SMALLEST)] {
        let run = sft(options, path, memory)?;
        let seconds = run.seconds[0];
        // The smallest settings run it a third time.
        let part = if shape.n_delta == 0 || settings == "smallest" {
            "–".to_owned()
        } else {
            let of_rule = delta_rule(options.length) * (shape.n_delta * options.items) as f64;
            format!("{:.0} %", 1e2 * of_rule / seconds)
        };
        println!(
            "| {name} | {settings} | {:.1} | {part} | {:.0} | {:.0} |",
            run.n_tokens / seconds,
            run.peak_mb,
            run.estimated_mb
        );
    }
    Ok(())
}

/// SFT of items of equal length, one a step.
pub fn sft(options: &Options, path: &Path, more: &[&str]) -> Result<Run> {
    let items = items(options.items, options.length)?;
    let one_a_step = ["--stage", "sft", "--epochs", "1", "--batch-size", "1"];
    let (run, _) = train(&options.python, path, &items, &[&one_a_step, more].concat())?;
    Ok(run)
}

/// Texts that are items of about `length` tokens with their prompts: each letter is a token of the random models.
fn items(n_items: usize, length: usize) -> Result<Vec<Example>> {
    let history = include_bytes!("../../models/alice/history.jsonl");
    let history = json::parse("history.jsonl".as_ref(), history)?.examples;
    let texts: Vec<_> = history.into_iter().map(|it| it.response).collect();
    let mut letters = texts.join(" ");
    letters.retain(|letter| letter.is_ascii_graphic() || letter == ' ');
    let n_letters = length - 12;
    let texts = (0..n_items).map(|item| &letters[item * n_letters..][..n_letters]);
    Ok(texts.map(|text| Example::new("Write.", text)).collect())
}

/// The seconds that the delta rule of one block of Qwen3.5-0.8B takes forward and backward for a text of `t` tokens.
fn delta_rule(t: usize) -> f64 {
    const HEADS: DeltaHeads = DeltaHeads {
        n_k: 16,
        n_v: 16,
        dim_k: 128,
        dim_v: 128,
    };
    const REPEATS: usize = 8;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut values = |n: usize, low: f32, high: f32| -> Vec<f32> {
        (0..n).map(|_| random.random_range(low..high)).collect()
    };
    let rows = values(t * HEADS.n_v * HEADS.dim_v, -0.15, 0.15);
    let inputs = DeltaInputs {
        q: &rows,
        k: &rows,
        v: &rows,
        log_decay: &values(t * HEADS.n_v, -1.0, 0.0),
        beta: &values(t * HEADS.n_v, 0.0, 1.0),
    };
    let text = Segment {
        queries: 0..t,
        keys: vec![0..0, 0..t],
    };
    let lineage = Lineage::new(&[text]);
    let started = Instant::now();
    for _ in 0..REPEATS {
        black_box(HEADS.forward(inputs, &lineage, |_| None));
        black_box(HEADS.backward(inputs, &lineage, &rows));
    }
    started.elapsed().as_secs_f64() / REPEATS as f64
}
