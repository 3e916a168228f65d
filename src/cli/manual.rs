//! `manual`: man pages of all commands.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args as ClapArgs, CommandFactory};
use cope_convert::say;

use super::Cli;

#[derive(ClapArgs)]
#[command(after_help = "Example:
  cope-llama manual ~/.local/share/man/man1 && man cope-llama-chat")]
pub struct Args {
    /// Folder for the pages, which is created if it is missing
    folder: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let folder = &args.folder;
    let written = std::fs::create_dir_all(folder);
    written
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("cannot write man pages to {}", folder.display()))?;
    say!("wrote a page for each command to {}", folder.display());
    Ok(())
}
