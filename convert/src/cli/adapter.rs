//! `adapter`: from one format, or type, to another.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use crate::adapter::{Adapter, LoraPair};
use crate::gguf::Gguf;
use crate::safetensors::Dtype;

use super::{BaseArgs, Failure, Outcome, open};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cope-convert adapter peft-folder alice.gguf --base model.gguf
  cope-convert adapter alice.gguf peft-folder --base model.gguf --base-name owner/model
  cope-convert adapter alice.gguf small.gguf --dtype f16
  cope-convert adapter task.gguf both.gguf --add alice.gguf --add style.gguf=0.5")]
pub struct Args {
    /// The adapter: a GGUF file, or a folder of PEFT's
    input: PathBuf,
    /// What to write: a GGUF file if it ends in .gguf, else a folder of PEFT's
    output: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    /// Where transformers finds the base, for PEFT [default: the base's name]
    #[arg(long, value_name = "NAME")]
    base_name: Option<String>,
    /// The weights' type [default: the type that each has]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<DtypeArg>,
    /// Another adapter to add, with a factor of its own; may be repeated
    #[arg(long, value_name = "ADAPTER[=FACTOR]", value_parser = addend)]
    add: Vec<(PathBuf, f32)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DtypeArg {
    F32,
    F16,
    Bf16,
}

impl From<DtypeArg> for Dtype {
    fn from(dtype: DtypeArg) -> Self {
        match dtype {
            DtypeArg::F32 => Self::F32,
            DtypeArg::F16 => Self::F16,
            DtypeArg::Bf16 => Self::BF16,
        }
    }
}

/// A path, and the factor after the last `=` if it is a number.
fn addend(text: &str) -> Result<(PathBuf, f32), String> {
    match text.rsplit_once('=') {
        None => Ok((text.into(), 1.0)),
        Some((path, factor)) => match factor.parse::<f32>() {
            Ok(factor) if factor.is_finite() => Ok((path.into(), factor)),
            _ => Err(format!("{factor:?} is no factor")),
        },
    }
}

pub fn run(args: &Args) -> Outcome {
    let base = args.base.base.as_deref();
    let adapter = open(&args.input, base)?;
    if args.add.is_empty() {
        write(&adapter, args)?;
    } else {
        let mut parts = vec![(adapter.load()?, 1.0)];
        for (path, factor) in &args.add {
            parts.push((open(path, base)?.load()?, *factor));
        }
        let parts: Vec<_> = parts.iter().map(|(part, factor)| (part, *factor)).collect();
        write(&Adapter::stack(&parts)?, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write<P: LoraPair>(adapter: &Adapter<P>, args: &Args) -> Outcome<()> {
    let (output, dtype) = (&args.output, args.dtype.map(Dtype::from));
    if output.extension() == Some(OsStr::new("gguf")) {
        return Ok(adapter.write_gguf_as(output, dtype)?);
    }
    let base = args.base.base.as_deref().ok_or_else(|| {
        Failure::Usage(format!(
            "{} does not end in .gguf and becomes a folder of PEFT's: add --base with the base as a GGUF file",
            output.display()
        ))
    })?;
    let gguf = Gguf::open(base)?;
    let name = args
        .base_name
        .clone()
        .unwrap_or_else(|| name_of(&gguf, base));
    Ok(adapter.write_peft(output, &gguf, &name, dtype)?)
}

/// What the base's file says of where it comes from, or its path.
fn name_of(gguf: &Gguf, path: &Path) -> String {
    let url = gguf.str("general.source.huggingface.repository");
    url.map_or_else(|_| path.display().to_string(), str::to_owned)
}
