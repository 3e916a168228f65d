//! The program `cope-convert`.

// `say!` does not end the program where stderr is closed.
#![deny(clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use cope_convert::cli::{self, cpu, signals};

/// Convert, inspect, compare, check and merge LoRA adapters and GGUF files, without llama.cpp and without Python
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: cli::Command,
}

fn main() -> ExitCode {
    if !cpu::is_sufficient() {
        return ExitCode::FAILURE;
    }
    run()
}

/// Not inlined, since `main` must not use what the CPU may not have.
#[inline(never)]
fn run() -> ExitCode {
    signals::watch();
    cli::run(&Cli::parse().command)
}
