//! How do time and memory of an epoch of SFT grow with the number of items, and with their length? Measured on real
//! texts.
//!
//! ```text
//! cargo bench --bench scaling -- [--model FILE]
//! ```

mod common;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use common::train;
use cope_llama::bases;
use cope_llama::home::Home;
use cope_llama::llama::{Boundary, Model, Special};
use cope_llama::profile::{Example, lamp};
use cope_llama::train::Encoder;

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
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
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
