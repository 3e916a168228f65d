//! `requantize`: rounds a model's weights to another type.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::gguf::Gguf;
use crate::rewrite::requantize;

use super::model::{refuse_overwriting, report_types, with_progress};
use super::{Outcome, TypeArg};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cope-convert requantize model.Q4_1.gguf --dtype q8_0 --output model.Q8_0.gguf

Precision that an earlier rounding lost stays lost. Except on CPUs with AMX, llama.cpp
reads prompts faster from Q8_0 and Q4_0 files than from Q4_1 files.
An adapter fits only the file that it was trained on: requantize first, then train.")]
pub struct Args {
    /// The model, a GGUF file
    base: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "GGUF")]
    output: PathBuf,
    /// The type of the layers' matrices; embeddings and norms stay as they are
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: TypeArg,
}

pub fn run(args: &Args, out: &mut impl Write) -> Outcome {
    let base = Gguf::open(&args.base)?;
    refuse_overwriting(base.parts.iter(), &args.output)?;
    let written = with_progress(&base, |progress| {
        requantize(&base, args.dtype.into(), &args.output, progress)
    });
    report_types(&written?, out)?;
    Ok(ExitCode::SUCCESS)
}
