//! The program `cope-llama`: parses the command line, runs the command and sets the exit code.

mod cli;

use std::io;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Some(instead) = cli::refused_download(std::env::args_os().skip(1)) {
        eprintln!("error: {instead}");
        return ExitCode::from(2);
    }
    match cli::run(cli::Cli::parse_from(cli::arguments())) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", cli::with_hint(&error));
            ExitCode::FAILURE
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
