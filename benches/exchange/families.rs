//! Converts a PEFT adapter of each family by llama.cpp's converter and by ours, and compares the results tensor by
//! tensor.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use serde::Deserialize;

use crate::Options;

/// A line of output of `families.py`.
#[derive(Deserialize)]
struct Converted {
    family: String,
    seconds: f64,
}

pub fn table(options: &Options) -> Result<()> {
    println!("| family | tensors | the same bits | llama.cpp's script, s | ours, s | ÷ |");
    println!("|---|---|---|---|---|---|");
    let folder = tempfile::tempdir()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/exchange/families.py");
    let output = Command::new(&options.python)
        .arg(script)
        .arg(options.converter())
        .arg(folder.path())
        .args(&options.family)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "families.py failed");
    for line in String::from_utf8(output.stdout)?.lines() {
        let theirs: Converted = serde_json::from_str(line)?;
        row(&folder.path().join(&theirs.family), &theirs)?;
    }
    Ok(())
}

fn row(folder: &Path, theirs: &Converted) -> Result<()> {
    let [base, peft, ours, back, again] =
        ["base.gguf", "peft", "ours.gguf", "back", "again.gguf"].map(|name| folder.join(name));
    let started = Instant::now();
    let base = Gguf::open(&base)?;
    Adapter::open_peft(&peft, &base)?.write_gguf(&ours)?;
    let seconds = started.elapsed().as_secs_f64();
    let (one, other) = (Gguf::open(&ours)?, Gguf::open(&folder.join("theirs.gguf"))?);
    ensure!(one.tensors.len() == other.tensors.len(), "as many tensors");
    let mut n_same = 0;
    for tensor in &one.tensors {
        let same = other
            .tensor(&tensor.name)
            .context("a tensor of the same name")?;
        let is_same = same.shape == tensor.shape && one.read(tensor)? == other.read(same)?;
        n_same += usize::from(is_same);
    }
    ensure!(
        one.f32("adapter.lora.alpha")? - other.f32("adapter.lora.alpha")? == 0.0,
        "one alpha"
    );
    println!(
        "| {} | {} | {n_same} | {:.1} | {seconds:.3} | {:.0} |",
        theirs.family,
        one.tensors.len(),
        theirs.seconds,
        theirs.seconds / seconds
    );
    ensure!(
        n_same == one.tensors.len(),
        "{}: tensors differ",
        theirs.family
    );
    // Converting to PEFT and back gives the same bytes.
    Adapter::open_gguf(&ours)?.write_peft(&back, &base, "base", None)?;
    Adapter::open_peft(&back, &base)?.write_gguf(&again)?;
    ensure!(
        std::fs::read(&ours)? == std::fs::read(&again)?,
        "there and back"
    );
    Ok(())
}
