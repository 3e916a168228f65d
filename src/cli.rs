//! The command line: one file per subcommand, each with its `Args` and `run`. Results go to stdout, everything else to
//! stderr.

mod audit_text;
mod bundle;
mod byte_size;
#[cfg(feature = "train")]
mod calibration_text;
mod chat;
mod decode_options;
mod doctor;
#[cfg(feature = "train")]
mod eval;
mod explain;
mod generate;
mod hint;
mod hub_options;
#[cfg(feature = "train")]
mod long_work;
mod manual;
mod model;
mod options;
mod prompt_cache;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod shell_completions;
mod terminal;
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
pub use terminal::restore as restore_terminal;

use anyhow::Result;
use clap::{Parser, Subcommand};
use cope_convert::say;
use cope_llama::home::{AuditRecord, Home};

/// Train and run language models that write like one person, on your own machine
///
/// `user import` and `train` turn texts that a person wrote into a small LoRA adapter on a base model. `chat` and
/// `generate` answer with the adapted model contrasted with the base (CoPe). No text leaves this machine.
#[derive(Parser)]
#[command(version, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  cope-llama model pull                download the default base model
  cope-llama user import alice --demo  import the demo history
  cope-llama train alice               train her adapter, which takes some minutes
  cope-llama chat --user alice         chat with it

Models and users are stored in $COPE_HOME, by default ~/.local/share/cope-llama.";

#[derive(Subcommand)]
enum Command {
    /// Base models: pull, list, recommend
    #[command(subcommand)]
    Model(model::Command),
    #[cfg_attr(
        all(feature = "serve", feature = "train"),
        doc = "Users: import a history, review it, audit, list, show, key, identity, export, delete"
    )]
    #[cfg_attr(
        not(all(feature = "serve", feature = "train")),
        doc = "Users: import a history, review it, list, show, export, delete"
    )]
    #[command(subcommand)]
    User(user::Command),
    #[cfg(feature = "train")]
    /// Train a user's adapter on the user's history, in four stages
    Train(Box<train::Args>),
    #[cfg(feature = "train")]
    /// Train a task adapter on many users' items; users' adapters can be trained on top of it
    TrainTask(Box<train_task::Args>),
    /// Chat with a model that writes like a user
    Chat(Box<chat::Args>),
    /// Answer one prompt
    Generate(Box<generate::Args>),
    #[cfg(feature = "serve")]
    /// Serve the users' models to other programs through OpenAI's API and Ollama's
    Serve(Box<serve::Args>),
    /// Adapter and model files: adapter, inspect, diff, check, merge, requantize (also the program cope-convert)
    #[command(subcommand)]
    Convert(cope_convert::cli::Command),
    /// Export a user's model as a folder for another machine, llama.cpp, Ollama and other programs
    Bundle(bundle::Args),
    #[cfg(feature = "train")]
    /// Evaluate the paper's methods on real texts: run, report, families, examples, tune
    #[command(subcommand)]
    Eval(Box<eval::Command>),
    /// Check the CPU, devices, base models and users, and say what to fix
    Doctor,
    /// Print a script that completes commands and options in a shell
    Completions(shell_completions::Args),
    /// Write man pages of all commands
    Manual(manual::Args),
}

/// Wrong usage that only a command itself can tell; its message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The program's arguments, with llama.cpp's short options of several letters replaced by their long forms: clap has no
/// such options.
pub fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().map(|argument| match argument.to_str() {
        Some("-ngl") => "--gpu-layers".into(),
        Some("-np") => "--parallel".into(),
        Some("-hf" | "-hfr") => "--hf-repo".into(),
        Some("-hff") => "--hf-file".into(),
        _ => argument,
    })
}

/// The error for an option of llama.cpp's downloads that there is not here, if one is among the arguments. clap would take
/// `-hft` for `-h` and print the help.
pub fn refused_download(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let mut options = arguments.take_while(|argument| argument != "--");
    options.find_map(|option| match option.to_str()? {
        option @ ("-mu" | "--model-url") => Some(format!(
            "{option} is not supported: download the GGUF file and name it with -m FILE, or use -hf for a model of Hugging Face"
        )),
        option @ ("-hft" | "--hf-token") => Some(format!(
            "{option} is not supported, since other users see the arguments of programs: set HF_TOKEN to the token"
        )),
        _ => None,
    })
}

/// Runs the command and returns the program's exit code.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let home = Home::open()?;
    match cli.command {
        Command::Model(command) => model::run(&home, command)?,
        Command::User(command) => return user::run(&home, command),
        #[cfg(feature = "train")]
        Command::Train(args) => return train::run(&home, &args),
        #[cfg(feature = "train")]
        Command::TrainTask(args) => return train_task::run(&home, &args),
        Command::Chat(args) => chat::run(&home, *args)?,
        Command::Generate(args) => generate::run(&home, &args)?,
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&home, &args)?,
        Command::Convert(command) => {
            for adapter in command.written_adapters() {
                // A record that cannot be read is no reason to refuse a conversion.
                if let Ok(Some(record)) = AuditRecord::beside(adapter) {
                    say!("{}: {}", adapter.display(), audit_text::summary(&record));
                }
            }
            return Ok(cope_convert::cli::run(&command));
        }
        Command::Bundle(args) => bundle::run(&home, &args)?,
        #[cfg(feature = "train")]
        Command::Eval(command) => return eval::run(&home, &command),
        Command::Doctor if doctor::run(&home)? => {}
        Command::Doctor => return Ok(ExitCode::FAILURE),
        Command::Completions(args) => shell_completions::run(&args)?,
        Command::Manual(args) => manual::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}
