//! The program `cope-convert`.

use std::process::ExitCode;

use clap::Parser;
use cope_convert::cli;

/// Convert, inspect, compare, check and merge LoRA adapters and GGUF files, without llama.cpp and without Python
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: cli::Command,
}

fn main() -> ExitCode {
    cli::signals::watch();
    cli::run(&Cli::parse().command)
}
