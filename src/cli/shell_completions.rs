//! `completions`: a shell's script that completes the program's commands and options.

use std::io::{self, Write};

use anyhow::Result;
use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(ClapArgs)]
#[command(after_help = "Examples:
  cope-llama completions bash > ~/.local/share/bash-completion/completions/cope-llama
  cope-llama completions fish > ~/.config/fish/completions/cope-llama.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args) -> Result<()> {
    // Written into memory first, since the generator panics where stdout is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cope-llama", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(())
}
