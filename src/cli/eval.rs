//! `eval`: scores and compares the paper's methods on real texts.

mod examples;
mod families;
mod report;
mod run;
mod study;
mod tune;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use cope_llama::home::Home;

#[derive(Subcommand)]
pub enum Command {
    /// Answer the unanswered queries by every method, training adapters where needed
    Run(run::Args),
    /// Print tables of the answers' scores
    Report(report::Args),
    /// Print the reports of several bases side by side
    Families(families::Args),
    /// Print some queries with the user's own texts and the methods' answers
    Examples(examples::Args),
    /// Choose settings on dev
    Tune(tune::Args),
}

pub fn run(home: &Home, command: &Command) -> Result<ExitCode> {
    match command {
        Command::Run(args) => return run::run(home, args),
        Command::Tune(args) => return tune::run(home, args),
        Command::Report(args) => report::run(home, args)?,
        Command::Families(args) => families::run(args)?,
        Command::Examples(args) => examples::run(home, args)?,
    }
    Ok(ExitCode::SUCCESS)
}
