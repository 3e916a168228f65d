//! `merge`: a model with adapters in its weights.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::adapter::{Adapter, StoredPair};
use crate::error::Error;
use crate::gguf::Gguf;
use crate::hash::sha256;
use crate::merge::{Merged, merge};

use super::{Factored, Failure, Outcome, TypeArg, factored, open};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cope-convert merge model.gguf alice.gguf --output merged.gguf
  cope-convert merge model.gguf alice.gguf --output merged.gguf --dtype q8_0
  cope-convert merge model.gguf task.gguf alice.gguf=0.8 --output merged.gguf

A tensor of a type that only llama.cpp writes (Q4_K and the like) becomes Q8_0 when it changes.
Coarse types swallow most of a small change: what is left of it is printed.")]
pub struct Args {
    /// The base, a GGUF file
    base: PathBuf,
    /// What to merge into it, each with a factor of its own
    #[arg(required = true, value_name = "ADAPTER[=FACTOR]", value_parser = factored)]
    adapters: Vec<Factored>,
    /// The file to write
    #[arg(short, long, value_name = "GGUF")]
    output: PathBuf,
    /// The type of the changed tensors [default: the type that each has]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<TypeArg>,
}

pub fn run(args: &Args, out: &mut impl Write) -> Outcome {
    let base = Gguf::open(&args.base)?;
    refuse_overwriting(args)?;
    let mut adapters = Vec::new();
    for (path, factor) in &args.adapters {
        adapters.push((open(path, Some(&args.base))?, *factor));
    }
    check_tasks(&args.adapters, &adapters)?;
    let base_sha256 = sha256(&args.base)?;
    let bar = bar(base.tensors.iter().map(|tensor| tensor.n_bytes).sum());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    // Without it Ctrl-C ends the program too, but would leave what is written so far.
    let _ = ctrlc::set_handler(move || stopped.store(true, Ordering::Relaxed));
    let progress = |n_bytes| {
        bar.inc(n_bytes);
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    };
    let ggml_type = args.dtype.map(Into::into);
    let merged = merge(
        &base,
        &base_sha256,
        &adapters,
        ggml_type,
        &args.output,
        &progress,
    );
    bar.finish_and_clear();
    report(&merged?, &args.output, out)?;
    Ok(ExitCode::SUCCESS)
}

fn report(merged: &Merged, output: &Path, out: &mut impl Write) -> Outcome<()> {
    let n = merged.n_tensors;
    writeln!(out, "merged into {n} tensors of {}", output.display())?;
    for ((from, to), n) in &merged.retyped {
        writeln!(out, "{n} tensors were {from} and are {to} now")?;
    }
    let percent = merged.kept * 100.0;
    writeln!(out, "{percent:.0} % of the change is left after rounding")?;
    if merged.kept < 0.9 {
        writeln!(
            out,
            "for more of it: --dtype q8_0 or f16, or the adapter beside its base"
        )?;
    }
    writeln!(
        out,
        "a merged model has lost the contrast: CoPe compares the adapted model with its base"
    )?;
    Ok(())
}

/// Adapters trained on top of a task's are of use with it alone.
fn check_tasks(args: &[Factored], adapters: &[(Adapter<StoredPair>, f32)]) -> Outcome<()> {
    for ((path, _), (adapter, _)) in args.iter().zip(adapters) {
        let Some(task) = &adapter.task_sha256 else {
            continue;
        };
        let mut found = false;
        for (other, _) in args.iter().filter(|(other, _)| other.is_file()) {
            found |= sha256(other)? == *task;
        }
        if !found {
            return Err(Failure::Usage(format!(
                "{} was trained on top of a task's adapter, with SHA-256 {}…: give that one too",
                path.display(),
                &task[..12]
            )));
        }
    }
    Ok(())
}

fn refuse_overwriting(args: &Args) -> Outcome<()> {
    let Ok(output) = fs::canonicalize(&args.output) else {
        return Ok(());
    };
    let inputs = args.adapters.iter().map(|(path, _)| path);
    for input in inputs.chain([&args.base]) {
        if fs::canonicalize(input).is_ok_and(|input| input == output) {
            return Err(Failure::Usage(format!(
                "{} is read, and cannot be the output: name another file",
                input.display()
            )));
        }
    }
    Ok(())
}

fn bar(n_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(n_bytes).with_style(style)
}
