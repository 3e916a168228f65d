//! `check`: checks whether an adapter fits a base.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::gguf::Gguf;
use crate::hash::sha256;

use super::{Outcome, open};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cope-convert check alice.gguf model.gguf")]
pub struct Args {
    /// The adapter: a GGUF file, or PEFT's or MLX's folder
    adapter: PathBuf,
    /// The base, a GGUF file
    base: PathBuf,
}

pub fn run(args: &Args, out: &mut impl Write) -> Outcome {
    let adapter = open(&args.adapter, Some(&args.base))?;
    adapter.check_fits(&Gguf::open(&args.base)?, &sha256(&args.base)?)?;
    let hash = match adapter.base_sha256 {
        Some(_) => "made for this very file",
        None => "it does not say for which file it was made",
    };
    let n = adapter.tensors.len();
    // Loading checks the weights too: one that is not a number would spoil every text.
    let rank = adapter.rank();
    adapter.load()?;
    writeln!(out, "fits: {n} tensors of rank {rank}; {hash}")?;
    Ok(ExitCode::SUCCESS)
}
