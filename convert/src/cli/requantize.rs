//! `requantize`: a model in another type.

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

What an earlier rounding lost stays lost. llama.cpp reads prompts in Q8_0 and
Q4_0 faster than in Q4_1 (but on AMX). An adapter is for one file: requantize, then train.")]
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
    refuse_overwriting([&args.base].into_iter(), &args.output)?;
    let written = with_progress(&base, |progress| {
        requantize(&base, args.dtype.into(), &args.output, progress)
    });
    report_types(&written?, out)?;
    Ok(ExitCode::SUCCESS)
}
