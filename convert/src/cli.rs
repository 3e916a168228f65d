//! The commands of the program `cope-convert`, which are those of `cope-llama convert` too.

mod adapter;
mod check;
pub mod cpu;
mod diff;
mod inspect;
mod merge;
mod model;
mod requantize;
mod say;
pub mod signals;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use crate::adapter::{Adapter, StoredPair};
use crate::error::{AdapterFlaw, Error, MergeFlaw, PeftFlaw};
use crate::gguf::{GgmlType, Gguf};
use crate::peft::{is_peft, left_out, locate};
use crate::say;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert an adapter between GGUF and PEFT, change its type, or add others to it
    Adapter(adapter::Args),
    /// Show an adapter's architecture, rank, adapted tensors, sizes, and norm of each layer
    Inspect(inspect::Args),
    /// Show the differences between two adapters
    Diff(diff::Args),
    /// Check whether an adapter fits a base
    Check(check::Args),
    /// Merge adapters into a base's weights, and write the result as a new model
    Merge(merge::Args),
    /// Round a model's weights to another type, and write the result as a new model
    Requantize(requantize::Args),
}

impl Command {
    /// The adapters whose weights the command writes to another file.
    pub fn written_adapters(&self) -> Vec<&Path> {
        match self {
            Self::Adapter(args) => args.adapters(),
            Self::Merge(args) => args.adapters(),
            Self::Inspect(_) | Self::Diff(_) | Self::Check(_) | Self::Requantize(_) => Vec::new(),
        }
    }
}

/// Runs a command. Prints results to stdout, and an error in one line to stderr.
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
        // The reader of the output, such as `head`, has closed it and wants no more.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            if let Failure::Convert(Error::Interrupted) = error {
                signals::die_of_received();
            }
            say!("error: {error}{}", hint(&error));
            match error {
                Failure::Usage(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The reason why a command fails.
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

/// The end of an error's message that says which option helps; empty if none does.
fn hint(error: &Failure) -> &'static str {
    match error {
        Failure::Convert(
            Error::Adapter {
                flaw: AdapterFlaw::TooLarge { .. },
                ..
            }
            | Error::Peft {
                flaw: PeftFlaw::Adapter(AdapterFlaw::TooLarge { .. }),
                ..
            }
            | Error::Merge {
                flaw: MergeFlaw::TooLarge(_),
                ..
            },
        ) => "; choose --dtype f32 or bf16",
        _ => "",
    }
}

/// Opens an adapter: a GGUF file, which has to fit `base` and is fused as that is, or an adapter of PEFT or MLX, which can only be read with its
/// base.
fn open(path: &Path, base: Option<&Path>) -> Outcome<Adapter<StoredPair>> {
    if !is_peft(path) {
        let adapter = Adapter::open_gguf(path)?;
        let Some(base) = base else {
            return Ok(adapter);
        };
        let base = Gguf::open(base)?;
        let adapter = adapter.fused_for(&base)?;
        // Commands that need the base's own hash compare it too.
        let recorded = adapter.base_sha256.clone().unwrap_or_default();
        adapter.check_fits(&base, &recorded)?;
        return Ok(adapter);
    }
    locate(path)?;
    let base = base.ok_or_else(|| {
        Failure::Usage(format!(
            "{} is an adapter of PEFT or MLX, which can only be read with its base: add --base with the base as a GGUF file",
            path.display()
        ))
    })?;
    let base = Gguf::open(base)?;
    let adapter = Adapter::open_peft(path, &base)?;
    if let Some(module) = left_out(path, &base)? {
        say!(
            "{}: {module} is left out, since llama.cpp does not apply an adapter of it",
            path.display()
        );
    }
    Ok(adapter)
}

/// The option of all commands that may read an adapter of PEFT or MLX.
#[derive(Debug, clap::Args)]
struct BaseArgs {
    /// The base as a GGUF file, needed for adapters of PEFT and MLX
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

/// The path of an adapter, and its factor.
type Factored = (PathBuf, f32);

/// Parses a path, with a factor after the last `=`, which is 1 if there is none.
fn factored(text: &str) -> Result<Factored, String> {
    match text.rsplit_once('=') {
        None => Ok((text.into(), 1.0)),
        Some((path, factor)) => match factor.parse::<f32>() {
            Ok(factor) if factor.is_finite() => Ok((path.into(), factor)),
            _ => Err(format!("the factor {factor:?} is not a finite number")),
        },
    }
}
