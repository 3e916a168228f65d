//! The server beside those who use it: OpenAI's own clients, a browser, a generator of requests, and many at once.
//!
//! ```text
//! make bench-serving                                # installs the others, runs all
//! cargo bench --bench serving -- --what load
//! ```
//!
//! It ends with an error where a client is not served as it should be.

mod bound;
mod clients;
mod load;
#[path = "../process.rs"]
mod process;
mod requests;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Options {
    /// The base [default: that of `model pull`]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// What to run
    #[arg(long, value_enum, num_args = 1.., default_values = ["clients", "load"])]
    what: Vec<What>,
    /// The Python that has openai and schemathesis
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python"))]
    python: PathBuf,
    /// Where npm's openai is
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/node"))]
    node: PathBuf,
    /// A Chromium
    #[arg(long, default_value = "/usr/bin/chromium")]
    browser: PathBuf,
    /// Clients at once
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Requests in all
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// Short requests, some of them given up, by which memory is judged
    #[arg(long, default_value_t = 10_000)]
    memory_requests: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// OpenAI's clients for Python and Node.js, Chromium, and Schemathesis
    Clients,
    /// Many clients at once
    Load,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Without a backtrace, after which nobody would find what a client said.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    for what in &options.what {
        match what {
            What::Clients => clients::run(options)?,
            What::Load => load::run(options)?,
        }
        println!();
    }
    Ok(())
}
