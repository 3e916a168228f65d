//! The server with its users: OpenAI's own clients and Ollama's, a browser, a generator of random requests, many clients at once, and the
//! first token beside llama-server's.
//!
//! ```text
//! make bench-serving                                # installs the clients, and runs everything
//! cargo bench --bench serving -- --what load
//! ```
//!
//! The bench ends with an error when a client gets a wrong response.

mod bound;
mod clients;
mod first_token;
mod load;
#[path = "../process.rs"]
mod process;
#[path = "../prompt_texts.rs"]
mod prompt_texts;
#[path = "../random_adapter.rs"]
mod random_adapter;
mod requests;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Options {
    /// The base [default: the one that `model pull` downloads]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// The parts to run
    #[arg(long, value_enum, num_args = 1.., default_values = ["clients", "load", "first-token"])]
    what: Vec<What>,
    /// The Python with the packages openai, ollama and schemathesis
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python"))]
    python: PathBuf,
    /// The Python with the package xllamacpp, whose llama-server is compared with
    #[arg(long, env = "COPE_ORACLE_PYTHON")]
    oracle: Option<PathBuf>,
    /// The folder of the LaMP files, whose texts the prompts of the first tokens are made of
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/lamp"))]
    data: PathBuf,
    /// The number of threads of both servers whose first tokens are measured [default: one per core]
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from), hide_default_value = true)]
    threads: usize,
    /// The number of repetitions of each measurement of first tokens
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// The lengths in tokens of the prompts whose first tokens are measured
    #[arg(long, num_args = 1.., default_values_t = [40, 200, 700])]
    prompt_tokens: Vec<usize>,
    /// The folder with npm's packages openai and ollama
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/node"))]
    node: PathBuf,
    /// The Chromium to drive
    #[arg(long, default_value = "/usr/bin/chromium")]
    browser: PathBuf,
    /// The most random requests that Schemathesis makes for each endpoint
    #[arg(long, default_value_t = 100)]
    examples: usize,
    /// The number of clients at once
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// The number of requests of all clients together
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// The number of short requests, some of them abandoned, after which memory is measured
    #[arg(long, default_value_t = 10_000)]
    memory_requests: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// OpenAI's and Ollama's clients for Python and Node.js, Chromium, and Schemathesis
    Clients,
    /// LangChain's classes for Ollama
    Langchain,
    /// Many clients at once
    Load,
    /// The time to the first token, beside llama-server's
    FirstToken,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // A backtrace would hide the client's output.
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
            What::Langchain => clients::run_langchain(options)?,
            What::Load => load::run(options)?,
            What::FirstToken => first_token::run(options)?,
        }
        println!();
    }
    Ok(())
}
