//! The commands of `cope-convert`, which `cope-llama convert` has too.

mod adapter;
mod check;
mod diff;
mod inspect;
mod merge;
mod model;
mod requantize;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use crate::adapter::{Adapter, StoredPair};
use crate::error::Error;
use crate::gguf::{GgmlType, Gguf};

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert an adapter between GGUF and PEFT, change its type, or add others to it
    Adapter(adapter::Args),
    /// Show what an adapter is: architecture, rank, targets, sizes, norms by layer
    Inspect(inspect::Args),
    /// Show in what two adapters differ
    Diff(diff::Args),
    /// Say whether an adapter fits a base
    Check(check::Args),
    /// Write a base with adapters in its weights
    Merge(merge::Args),
    /// Write a model in another type
    Requantize(requantize::Args),
}

/// Does what is asked; prints results to stdout, and what is wrong, one line, to stderr.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let mut out = io::stdout().lock();
    let done = match command {
        Command::Adapter(args) => adapter::run(args),
        Command::Inspect(args) => inspect::run(args, &mut out),
        Command::Diff(args) => diff::run(args, &mut out),
        Command::Check(args) => check::run(args, &mut out),
        Command::Merge(args) => merge::run(args, &mut out),
        Command::Requantize(args) => requantize::run(args, &mut out),
    };
    match done.and_then(|code| out.flush().map(|()| code).map_err(Failure::Output)) {
        Ok(code) => code,
        // Whoever read our output has read enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                Failure::Usage(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Convert(#[from] Error),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Usage(String),
}

/// `Result` with [`Failure`].
type Outcome<T = ExitCode> = std::result::Result<T, Failure>;

/// An adapter, of whatever format it is: a folder is PEFT's, for which its base has to be known.
fn open(path: &Path, base: Option<&Path>) -> Outcome<Adapter<StoredPair>> {
    if !path.is_dir() {
        return Ok(Adapter::open_gguf(path)?);
    }
    let base = base.ok_or_else(|| {
        Failure::Usage(format!(
            "{} is a folder of PEFT's: add --base with the base as a GGUF file, for names and rows",
            path.display()
        ))
    })?;
    Ok(Adapter::open_peft(path, &Gguf::open(base)?)?)
}

/// The option of all commands that may read a folder of PEFT's.
#[derive(Debug, clap::Args)]
struct BaseArgs {
    /// The base as a GGUF file, needed for folders of PEFT's
    #[arg(short, long, value_name = "GGUF")]
    base: Option<PathBuf>,
}

/// The types that weights can be written in.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TypeArg {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q5_1")]
    Q5_1,
    #[value(name = "q5_0")]
    Q5_0,
    #[value(name = "q4_1")]
    Q4_1,
    #[value(name = "q4_0")]
    Q4_0,
}

impl From<TypeArg> for GgmlType {
    fn from(arg: TypeArg) -> Self {
        match arg {
            TypeArg::F32 => Self::F32,
            TypeArg::F16 => Self::F16,
            TypeArg::Bf16 => Self::BF16,
            TypeArg::Q8_0 => Self::Q8_0,
            TypeArg::Q5_1 => Self::Q5_1,
            TypeArg::Q5_0 => Self::Q5_0,
            TypeArg::Q4_1 => Self::Q4_1,
            TypeArg::Q4_0 => Self::Q4_0,
        }
    }
}

/// An adapter's path, and its factor.
type Factored = (PathBuf, f32);

/// A path, and the factor after the last `=`, or 1.
fn factored(text: &str) -> Result<Factored, String> {
    match text.rsplit_once('=') {
        None => Ok((text.into(), 1.0)),
        Some((path, factor)) => match factor.parse::<f32>() {
            Ok(factor) if factor.is_finite() => Ok((path.into(), factor)),
            _ => Err(format!("{factor:?} is no factor")),
        },
    }
}
