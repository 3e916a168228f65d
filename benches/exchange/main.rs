//! Adapters between this program and others: PEFT, llama.cpp's own converter, transformers, xllamacpp, node-llama-cpp.
//!
//! ```text
//! make bench-exchange                                    # installs the others, runs all
//! cargo bench --bench exchange -- --family llama --model smollm2.gguf --what families programs
//! ```
//!
//! It ends with an error where two of them differ.

mod families;
mod large;
mod programs;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Options {
    /// Families to convert [default: all]
    #[arg(long, num_args = 1..)]
    family: Vec<String>,
    /// Models to run [default: the three small bases of `model list`]
    #[arg(short, long, num_args = 1..)]
    model: Vec<PathBuf>,
    /// What to run
    #[arg(long, value_enum, num_args = 1.., default_values = ["families", "programs", "large"])]
    what: Vec<What>,
    /// The Python that has transformers + peft
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peer/bin/python"))]
    python: PathBuf,
    /// The Python that has xllamacpp
    #[arg(long, env = "COPE_ORACLE_PYTHON")]
    oracle: PathBuf,
    /// Where llama.cpp's converter and node-llama-cpp are
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/exchange"))]
    others: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// An adapter of each family, by our conversion and by llama.cpp's
    Families,
    /// Adapters trained here in other programs, and theirs here
    Programs,
    /// Speed and memory on an adapter of 200 MB
    Large,
}

impl Options {
    /// The script of llama.cpp that converts adapters.
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
