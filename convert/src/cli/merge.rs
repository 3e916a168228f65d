//! `merge`: merges adapters into a model's weights.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::adapter::{Adapter, StoredPair};
use crate::gguf::Gguf;
use crate::hash::sha256;
use crate::rewrite::{Merged, merge};

use super::model::{refuse_overwriting, report_types, with_progress};
use super::{Factored, Failure, Outcome, TypeArg, factored, open};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cope-convert merge model.gguf alice.gguf --output merged.gguf
  cope-convert merge model.gguf alice.gguf --output merged.gguf --dtype q8_0
  cope-convert merge model.gguf task.gguf alice.gguf=0.8 --output merged.gguf

A changed tensor of a type that only llama.cpp writes (Q4_K and the like) becomes Q8_0.
Rounding to a coarse type undoes most of a small change: the share that is left is printed.")]
pub struct Args {
    /// The base, a GGUF file
    base: PathBuf,
    /// The adapters to merge into it, each with its factor
    #[arg(required = true, value_name = "ADAPTER[=FACTOR]", value_parser = factored)]
    adapters: Vec<Factored>,
    /// The file to write
    #[arg(short, long, value_name = "GGUF")]
    output: PathBuf,
    /// The type of the changed tensors [default: each keeps its own]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<TypeArg>,
}

impl Args {
    /// The adapters that are merged.
    pub fn adapters(&self) -> Vec<&Path> {
        self.adapters
            .iter()
            .map(|(path, _)| path.as_path())
            .collect()
    }
}

pub fn run(args: &Args, out: &mut impl Write) -> Outcome {
    let base = Gguf::open(&args.base)?;
    let inputs = args.adapters.iter().map(|(path, _)| path);
    refuse_overwriting(inputs.chain(&base.parts), &args.output)?;
    let mut adapters = Vec::new();
    for (path, factor) in &args.adapters {
        adapters.push((open(path, Some(&args.base))?, *factor));
    }
    check_tasks(&args.adapters, &adapters)?;
    let base_sha256 = sha256(&args.base)?;
    let ggml_type = args.dtype.map(Into::into);
    let merged = with_progress(&base, |progress| {
        merge(
            &base,
            &base_sha256,
            &adapters,
            ggml_type,
            &args.output,
            progress,
        )
    });
    report(&merged?, &args.output, out)?;
    Ok(ExitCode::SUCCESS)
}

fn report(merged: &Merged, output: &Path, out: &mut impl Write) -> Outcome<()> {
    let n = merged.n_tensors;
    writeln!(out, "merged into {n} tensors of {}", output.display())?;
    report_types(&merged.retyped, out)?;
    let percent = merged.kept * 100.0;
    writeln!(out, "{percent:.0} % of the change is left after rounding")?;
    if merged.kept < 0.9 {
        writeln!(
            out,
            "to keep more of it, choose --dtype q8_0 or f16, or use the adapter beside its base"
        )?;
    }
    writeln!(
        out,
        "a merged model has lost the contrast: CoPe compares the adapted model with its base"
    )?;
    Ok(())
}

/// Makes sure that an adapter which was trained on top of a task adapter is merged together with it, since it is of no
/// use without it.
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
                "{} was trained on top of a task's adapter, with SHA-256 {}…: name that adapter too",
                path.display(),
                &task[..12]
            )));
        }
    }
    Ok(())
}
