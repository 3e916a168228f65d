//! Compares models and adapters with other programs: PEFT, llama.cpp's own converters, transformers, xllamacpp,
//! node-llama-cpp.
//!
//! ```text
//! make bench-exchange                                    # installs the other programs, runs all parts
//! cargo bench --bench exchange -- --family llama --model smollm2.gguf --what families programs
//! ```
//!
//! It fails if two programs give different results.

mod families;
mod large;
mod programs;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Options {
    /// The small models of families, by their names in `families.py` [default: all]
    #[arg(long, num_args = 1..)]
    family: Vec<String>,
    /// The models to run [default: the three small bases of `model list`]
    #[arg(short, long, num_args = 1..)]
    model: Vec<PathBuf>,
    /// The parts to run
    #[arg(long, value_enum, num_args = 1.., default_values = ["families", "programs", "large"])]
    what: Vec<What>,
    /// The Python that has transformers + peft
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peer/bin/python"))]
    python: PathBuf,
    /// The Python that has xllamacpp
    #[arg(long, env = "COPE_ORACLE_PYTHON")]
    oracle: PathBuf,
    /// The folder of llama.cpp's converter and node-llama-cpp
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/exchange"))]
    others: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Compare small random models of each family
    Families,
    /// Run adapters trained here in other programs, and theirs here
    Programs,
    /// Measure speed and memory on an adapter of 240 MB
    Large,
}

impl Options {
    /// The path of llama.cpp's script that converts adapters.
    fn converter(&self) -> PathBuf {
        self.others.join("llama.cpp/convert_lora_to_gguf.py")
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    for what in &options.what {
        match what {
            What::Families => families::table(&options)?,
            What::Programs => programs::table(&options)?,
            What::Large => large::table(&options)?,
        }
        println!();
    }
    Ok(())
}
