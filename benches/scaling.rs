//! How do time and memory of an epoch of SFT grow with the number of items, with their length, and beside other programs
//! that never rest? Measured on real texts.
//!
//! ```text
//! cargo bench --bench scaling -- [--model FILE]
//! cargo bench --bench scaling -- --busy
//! ```

mod common;
mod spinning;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;
use common::train;
use cope_llama::bases;
use cope_llama::home::Home;
use cope_llama::llama::{Boundary, Model, Special};
use cope_llama::profile::{Example, lamp};
use cope_llama::train::Encoder;
use spinning::{N_BUSY, Spinning};

/// Approximate number of tokens of the prompt and the chat template in an item.
const PROMPT_TOKENS: usize = 40;

#[derive(Parser)]
struct Options {
    /// The base model [default: the default base of the home folder]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// The folder of the LaMP files
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/lamp"))]
    data: PathBuf,
    /// Any Python; it asks the kernel for the memory of a process
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Numbers of items to measure
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    items: Vec<usize>,
    /// Lengths of the items to measure, in tokens
    #[arg(long, value_delimiter = ',', default_values_t = [128, 256, 512, 1024, 2048])]
    lengths: Vec<usize>,
    /// Measure beside 0, 1 and 2 programs that keep a core busy instead
    #[arg(long)]
    busy: bool,
    /// The number of repetitions beside other programs
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Keep a core busy instead, as another program would
    #[arg(long, hide = true)]
    spin: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.spin {
        spinning::spin();
        return Ok(());
    }
    let model = match &options.model {
        Some(path) => path.clone(),
        None => Home::open()?.base(&bases::default_base().file),
    };
    let lamp = lamp::read(&options.data.join("product_review_wine.json"))?;
    let reviews: Vec<Example> = lamp
        .users
        .into_iter()
        .flat_map(|user| user.history)
        .collect();
    if options.busy {
        return busy(
            &options,
            &model,
            &reviews[..options.items[0].min(reviews.len())],
        );
    }
    println!("| items | of tokens | | SFT, s an epoch | ms a token | peak, MB | estimated, MB |");
    println!("|---|---|---|---|---|---|---|");
    let row = |items: &[Example], length: &str, batch_size: &str| -> Result<()> {
        let smallest: &[&str] = &["--weights", "quantized", "--recompute"];
        for (name, memory) in [("fastest", [].as_slice()), ("smallest", smallest)] {
            let sft = [
                "--stage",
                "sft",
                "--epochs",
                "1",
                "--batch-size",
                batch_size,
            ];
            let (run, _) = train(&options.python, &model, items, &[&sft, memory].concat())?;
            println!(
                "| {} | {length} | {name} | {:.1} | {:.2} | {:.0} | {:.0} |",
                items.len(),
                run.seconds[0],
                1e3 * run.seconds[0] / run.n_tokens,
                run.peak_mb,
                run.estimated_mb
            );
        }
        Ok(())
    };
    for &n_items in &options.items {
        row(&reviews[..n_items.min(reviews.len())], "reviews", "4")?;
    }
    let vocabulary = Model::load_vocabulary(&model)?;
    let encoder = Encoder::new(&vocabulary, usize::MAX)?;
    let text: Vec<&str> = reviews
        .iter()
        .map(|review| review.response.as_str())
        .collect();
    let tokens = vocabulary.tokenize(&text.join(" "), Boundary::Omit, Special::Ignored)?;
    for &length in &options.lengths {
        let texts = tokens.chunks_exact(length - PROMPT_TOKENS).take(4);
        let items: Vec<_> = texts
            .map(|tokens| Example::new("Write.", encoder.text(tokens)))
            .collect();
        row(&items, &length.to_string(), "1")?;
    }
    Ok(())
}

/// Prints the time of an epoch beside other programs, and its ratio to the time beside none.
fn busy(options: &Options, model: &Path, items: &[Example]) -> Result<()> {
    let n = items.len();
    println!("| SFT of {n} reviews, s; programs that spin: | 0 | 1 | 2 | 1 ÷ 0 | 2 ÷ 0 |");
    println!("|---|---|---|---|---|---|");
    let sft = ["--stage", "sft", "--epochs", "1"];
    for repeat in 1..=options.repeats {
        let mut seconds = Vec::new();
        for n_busy in N_BUSY {
            let _spinning = Spinning::start(n_busy)?;
            let (run, _) = train(&options.python, model, items, &sft)?;
            seconds.push(run.seconds[0]);
        }
        print!("| {repeat} |");
        seconds.iter().for_each(|it| print!(" {it:.1} |"));
        seconds[1..]
            .iter()
            .for_each(|it| print!(" {:.2} |", it / seconds[0]));
        println!();
    }
    Ok(())
}
