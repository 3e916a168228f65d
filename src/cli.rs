//! The command line: one file a subcommand, each with its `Args` and `run`. Results go to stdout, all else to stderr.

mod bundle;
mod chat;
mod decode_options;
mod doctor;
#[cfg(feature = "train")]
mod eval;
mod explain;
mod generate;
mod hint;
mod interrupt;
mod model;
mod options;
#[cfg(feature = "serve")]
mod serve;
mod session;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "train")]
mod train_options;
#[cfg(feature = "train")]
mod train_progress;
#[cfg(feature = "train")]
mod train_task;
mod user;

pub use hint::with_hint;
use std::ffi::OsString;
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
    #[cfg(feature = "train")]
    /// Train a user's adapter on the history, in three stages
    Train(Box<train::Args>),
    #[cfg(feature = "train")]
    /// Train a task's adapter on many users' items, for users' adapters to be trained on top of
    TrainTask(Box<train_task::Args>),
    /// Chat with a model that writes like a user
    Chat(Box<chat::Args>),
    /// Answer one prompt
    Generate(Box<generate::Args>),
    #[cfg(feature = "serve")]
    /// OpenAI's API for other programs, by users
    Serve(Box<serve::Args>),
    /// Adapters in files: from and to PEFT, inspect, compare, check (also a program of its own, cope-convert)
    #[command(subcommand)]
    Convert(cope_convert::cli::Command),
    /// A user's model as a folder for a device, or for llama.cpp, Ollama and others
    Bundle(bundle::Args),
    #[cfg(feature = "train")]
    /// The paper's methods on real texts, scored and compared
    #[command(subcommand)]
    Eval(Box<eval::Command>),
    /// What the program runs on, where data lies, what to mend
    Doctor,
}

/// The arguments, with llama.cpp's `-ngl` and `-np` spelled as clap can read them.
pub fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().map(|argument| match argument.to_str() {
        Some("-ngl") => "--gpu-layers".into(),
        Some("-np") => "--parallel".into(),
        _ => argument,
    })
}

/// Runs the command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let home = Home::open()?;
    match cli.command {
        Command::Model(command) => model::run(&home, command)?,
        Command::User(command) => user::run(&home, command)?,
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(&home, &args)?,
        #[cfg(feature = "train")]
        Command::TrainTask(args) => train_task::run(&home, &args)?,
        Command::Chat(args) => chat::run(&home, *args)?,
        Command::Generate(args) => generate::run(&home, &args)?,
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&home, &args)?,
        Command::Convert(command) => return Ok(cope_convert::cli::run(&command)),
        Command::Bundle(args) => bundle::run(&home, &args)?,
        #[cfg(feature = "train")]
        Command::Eval(command) => eval::run(&home, &command)?,
        Command::Doctor if doctor::run(&home)? => {}
        Command::Doctor => return Ok(ExitCode::FAILURE),
    }
    Ok(ExitCode::SUCCESS)
}
