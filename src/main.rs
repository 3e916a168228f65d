//! The program `cope-llama`: parses the command line, runs the command and sets the exit code.

// `say!` does not end the program where stderr is closed.
#![deny(clippy::print_stderr)]

mod cli;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use cope_convert::cli::{cpu, signals};
use cope_convert::say;

fn main() -> ExitCode {
    if !cpu::is_sufficient() {
        return ExitCode::FAILURE;
    }
    run()
}

/// Not inlined, since `main` must not use what the CPU may not have.
#[inline(never)]
fn run() -> ExitCode {
    if let Some(instead) = cli::refused_download(std::env::args_os().skip(1)) {
        say!("error: {instead}");
        return ExitCode::from(2);
    }
    signals::watch();
    signals::before_death(cli::restore_terminal);
    match cli::run(cli::Cli::parse_from(cli::arguments())) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if is_interrupted(&error) {
                signals::die_of_received();
            }
            say!("error: {}", cli::with_hint(&error));
            ExitCode::from(if error.is::<cli::UsageError>() { 2 } else { 1 })
        }
    }
}

/// Whether the error is that the reader of our output closed its pipe early, as `head` does. That is not a failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether a signal stopped the command, which has then ended in order.
fn is_interrupted(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<cope_llama::Error>(),
        Some(cope_llama::Error::Interrupted)
    )
}
