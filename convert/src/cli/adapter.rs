//! `adapter`: converts an adapter between formats and types.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::adapter::{Adapter, LoraPair};
use crate::gguf::{GgmlType, Gguf};
use crate::safetensors::Dtype;

use super::{BaseArgs, Factored, Failure, Outcome, TypeArg, factored, open};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cope-convert adapter peft-folder alice.gguf --base model.gguf
  cope-convert adapter alice.gguf peft-folder --base model.gguf --base-name owner/model
  cope-convert adapter alice.gguf small.gguf --dtype f16
  cope-convert adapter task.gguf both.gguf --add alice.gguf --add style.gguf=0.5")]
pub struct Args {
    /// The adapter: a GGUF file, or PEFT's or MLX's folder
    input: PathBuf,
    /// The adapter to write: a GGUF file if the path ends in .gguf, else a PEFT folder
    output: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    /// The name under which transformers finds the base, for PEFT [default: the base's name]
    #[arg(long, value_name = "NAME")]
    base_name: Option<String>,
    /// The type of the weights [default: each weight keeps its own]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<TypeArg>,
    /// Another adapter to add, with its factor; may be repeated
    #[arg(long, value_name = "ADAPTER[=FACTOR]", value_parser = factored)]
    add: Vec<Factored>,
}

impl Args {
    /// The adapters that are read.
    pub fn adapters(&self) -> Vec<&Path> {
        let added = self.add.iter().map(|(path, _)| path.as_path());
        std::iter::once(self.input.as_path()).chain(added).collect()
    }
}

pub fn run(args: &Args) -> Outcome {
    let base = args.base.base.as_deref();
    let adapter = open(&args.input, base)?;
    if args.add.is_empty() {
        write(&adapter, args)?;
    } else {
        let mut parts = vec![(adapter, 1.0)];
        for (path, factor) in &args.add {
            parts.push((open(path, base)?, *factor));
        }
        let parts: Vec<_> = parts.iter().map(|(part, factor)| (part, *factor)).collect();
        write(&Adapter::stack(&parts)?, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write<P: LoraPair>(adapter: &Adapter<P>, args: &Args) -> Outcome<()> {
    let (output, ggml_type) = (&args.output, args.dtype.map(GgmlType::from));
    if output.extension() == Some(OsStr::new("gguf")) {
        return Ok(adapter.write_gguf_as(output, ggml_type)?);
    }
    let base = args.base.base.as_deref().ok_or_else(|| {
        Failure::Usage(format!(
            "{} does not end in .gguf, so it will be a PEFT folder: add --base with the base as a GGUF file",
            output.display()
        ))
    })?;
    let dtype = ggml_type.map(|it| {
        Dtype::try_from(it).map_err(|()| {
            Failure::Usage(format!(
                "PEFT does not have the type {it}: choose --dtype f32, f16 or bf16"
            ))
        })
    });
    let gguf = Gguf::open(base)?;
    let name = args
        .base_name
        .clone()
        .unwrap_or_else(|| name_of(&gguf, base));
    Ok(adapter.write_peft(output, &gguf, &name, dtype.transpose()?)?)
}

/// The repository that the base's file says it comes from, or its path.
fn name_of(gguf: &Gguf, path: &Path) -> String {
    let url = gguf.str("general.source.huggingface.repository");
    url.map_or_else(|_| path.display().to_string(), str::to_owned)
}
