//! The cost of CoPe compared with plain decoding with the same adapter, on real queries of five tasks with adapters trained
//! by the default recipe.
//!
//! ```text
//! make bench-decoding                             # the report, with transformers + peft for comparison
//! cargo bench --bench decoding                    # speed, memory, the contrast kernel
//! cargo bench --bench decoding -- --what passes   # the time of a pass by its tokens; --help lists more
//! cargo bench --bench decoding -- --identity 500  # the same tokens as the naive loop
//! ```
//!
//! *Plain* decodes the tokens that CoPe has chosen with the user's context alone: the faster of all threads, as llama.cpp
//! uses them, and half of them for single tokens.

mod adapters;
mod batch;
mod busy;
mod first;
mod identity;
mod kernel;
mod memory;
mod passes;
mod peer;
#[path = "../process.rs"]
mod process;
#[path = "../prompt_texts.rs"]
mod prompt_texts;
#[path = "../random_adapter.rs"]
mod random_adapter;
#[path = "../random_twin.rs"]
mod random_twin;
mod speed;
#[path = "../spinning.rs"]
mod spinning;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use cope_llama::bases;
use cope_llama::home::Home;

#[derive(Parser)]
struct Options {
    /// Models [default: the bases that are pulled]
    #[arg(short, long, num_args = 1..)]
    model: Vec<PathBuf>,
    /// The folder of the LaMP files
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/lamp"))]
    data: PathBuf,
    /// Only tasks whose name contains this
    #[arg(long, default_value = "")]
    task: String,
    /// The folder where trained adapters are kept for the next run
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/decoding"))]
    adapters: PathBuf,
    /// The number of newest items of a history that its adapter is trained on
    #[arg(long, default_value_t = 40)]
    items: usize,
    /// The number of queries of each task
    #[arg(long, default_value_t = 6)]
    queries: usize,
    /// The most tokens of an answer
    #[arg(short = 'n', long, default_value_t = 128)]
    predict: usize,
    /// The number of repetitions of each measurement of first tokens
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// The lengths in tokens of the prompts whose first tokens are measured
    #[arg(long, num_args = 1.., default_values_t = [40, 200, 700])]
    prompt_tokens: Vec<usize>,
    /// The measurement
    #[arg(long, value_enum, num_args = 1.., default_value = "report")]
    what: Vec<What>,
    /// The Python interpreter that has the packages of the peer
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peer/bin/python"))]
    python: PathBuf,
    /// Compare this many answers of each model with those of the naive schedule, token by token
    #[arg(long, value_name = "N")]
    identity: Option<usize>,
    /// With --identity: skip this many prompts of each task, which an earlier run has compared
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Answer one query in this process and print its memory
    #[arg(long, hide = true)]
    probe: Option<memory::Probe>,
    /// Keep a core busy instead, as another program would
    #[arg(long, hide = true)]
    spin: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Speed, memory, the contrast kernel
    Report,
    /// Speed of each part of the schedule alone, and of several together
    Parts,
    /// The time of a pass by its tokens
    Passes,
    /// Many answers at once
    Batch,
    /// The time to the first token, of new prompts and of chats that go on
    First,
    /// The time of a pass on a busy machine
    Busy,
    /// The contrast kernel
    Kernel,
    /// Comparison with transformers + peft
    Peer,
}

impl Options {
    /// The models to measure.
    fn models(&self) -> Result<Vec<PathBuf>> {
        if !self.model.is_empty() {
            return Ok(self.model.clone());
        }
        let home = Home::open()?;
        let bases = bases::all();
        let pulled = bases.iter().map(|base| home.base(&base.file));
        // The largest base is for chats and for the memory bench of training; it is left out here.
        let models: Vec<_> = pulled
            .filter(|path| path.exists() && !path.to_string_lossy().contains("1.5B"))
            .collect();
        ensure!(!models.is_empty(), "no base is pulled");
        Ok(models)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.spin {
        spinning::spin();
        return Ok(());
    }
    if let Some(probe) = options.probe {
        return memory::answer(&options, probe);
    }
    if let Some(n) = options.identity {
        return identity::table(&options, n);
    }
    for what in &options.what {
        match what {
            What::Report => {
                speed::table(&options, false)?;
                memory::table(&options)?;
                kernel::table();
            }
            What::Parts => speed::table(&options, true)?,
            What::Passes => passes::table(&options)?,
            What::Batch => batch::table(&options)?,
            What::First => first::table(&options)?,
            What::Busy => busy::table(&options)?,
            What::Kernel => kernel::table(),
            What::Peer => peer::table(&options)?,
        }
    }
    Ok(())
}
