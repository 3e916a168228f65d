//! The command line: one file a subcommand, each with its `Args` and `run`. Results go to stdout, all else to stderr.

mod interrupt;
mod model;
mod user;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use cope_llama::home::Home;

/// Language models that write like one person, trained and run on one's own machine
///
/// A history of what someone wrote becomes a small adapter on a base model (`user import`, `train`). Answers come from
/// the adapted model contrasted with the base (`chat`, `generate`). Nothing leaves this machine.
#[derive(Parser)]
#[command(version, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  cope-llama model pull                fetch the default base model
  cope-llama user import alice --demo  a history to try it with
  cope-llama train alice               some minutes
  cope-llama chat --user alice

Models and users are kept in $COPE_HOME, or in cope-llama in the user's data directory.";

#[derive(Subcommand)]
enum Command {
    /// Base models: fetch one, list them
    #[command(subcommand)]
    Model(model::Command),
    /// Users and their histories: import, list, show, delete
    #[command(subcommand)]
    User(user::Command),
}

/// Runs the command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let home = Home::open()?;
    match cli.command {
        Command::Model(command) => model::run(&home, command)?,
        Command::User(command) => user::run(&home, command)?,
    }
    Ok(ExitCode::SUCCESS)
}
