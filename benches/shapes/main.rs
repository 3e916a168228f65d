//! Speed and memory of training and decoding at the sizes of published models, with random weights. Neither depends on
//! the values of the weights, except for the number of plausible tokens.
//!
//! ```text
//! cargo bench --bench shapes                                      # training and decoding
//! make bench-shapes                                               # and training by transformers + peft
//! cargo bench --bench shapes -- --shape qwen3.5 --what training
//! cargo bench --bench shapes -- --smoke                           # a few blocks and tokens of each
//! ```

#[path = "../common.rs"]
mod common;
mod decode_cost;
mod peer_cost;
#[path = "../process.rs"]
mod process;
mod published;
#[path = "../random_adapter.rs"]
mod random_adapter;
mod random_model;
#[path = "../random_twin.rs"]
mod random_twin;
mod train_cost;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use published::Shape;
use random_model::FileType;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Training,
    Decoding,
    Peer,
}

#[derive(Parser)]
struct Options {
    /// The parts to run
    #[arg(long, value_delimiter = ',', default_values_t = [What::Training, What::Decoding])]
    what: Vec<What>,
    /// A part of the names of the shapes
    #[arg(long, default_value = "")]
    shape: String,
    /// The types of the files
    #[arg(long, value_delimiter = ',', default_values = ["Q4_K_M", "Q8_0"])]
    types: Vec<FileType>,
    /// The folder in which the files are kept
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/shapes"))]
    folder: PathBuf,
    /// Any Python; it asks the kernel for the memory of a process. The peer needs one with transformers and peft
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Tokens of an item
    #[arg(long, default_value_t = 512)]
    length: usize,
    /// The number of items; each is a step of training
    #[arg(long, default_value_t = 3)]
    items: usize,
    /// Tokens of an answer
    #[arg(long, default_value_t = 64)]
    predict: usize,
    /// The number of answers of each kind
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Measure small models instead, to try the bench
    #[arg(long)]
    smoke: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.smoke {
        options.types.truncate(1);
        (options.length, options.items) = (64, 1);
        (options.predict, options.repeats) = (8, 1);
    }
    let mut shapes = published::all(options.smoke);
    shapes.retain(|it| {
        it.name
            .to_lowercase()
            .contains(&options.shape.to_lowercase())
    });
    ensure!(
        !shapes.is_empty(),
        "no shape has {:?} in its name",
        options.shape
    );
    std::fs::create_dir_all(&options.folder)?;
    for &what in &options.what {
        println!("{}", what.head());
        let n_columns = what.head().matches('|').count() - 1;
        println!("|{}", "---|".repeat(n_columns));
        for shape in &shapes {
            for &file_type in &options.types {
                what.measure(&options, shape, file_type)?;
            }
        }
        println!();
    }
    Ok(())
}

impl What {
    /// The head of the table.
    fn head(self) -> &'static str {
        match self {
            Self::Training => {
                "| model | settings | tokens a second | delta rule, of the time | peak, MB | estimated, MB |"
            }
            Self::Decoding => {
                "| model | schedule | user model, ms a token | CoPe, ms a token | CoPe ÷ user model | choices undecided | changed | memory, MB |"
            }
            Self::Peer => {
                "| model | ours, tokens a second | transformers + peft, tokens a second | ours ÷ theirs | peak, MB | theirs, MB | ours ÷ theirs |"
            }
        }
    }

    fn measure(self, options: &Options, shape: &Shape, file_type: FileType) -> Result<()> {
        let name = format!("{} {}", shape.name, file_type.name());
        let path = file(options, shape, file_type)?;
        match self {
            Self::Training => train_cost::rows(options, shape, &name, &path),
            Self::Decoding => decode_cost::rows(&name, &path, options.predict, options.repeats),
            Self::Peer => peer_cost::row(options, shape, &name, &path),
        }
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Training => "training",
            Self::Decoding => "decoding",
            Self::Peer => "peer",
        })
    }
}

/// The file of a shape, which is made if it is not there.
fn file(options: &Options, shape: &Shape, file_type: FileType) -> Result<PathBuf> {
    let size = if options.smoke { "-small" } else { "" };
    let name = format!("{}{size}.{}.gguf", shape.name, file_type.name());
    let path = options.folder.join(name);
    if !Path::new(&path).exists() {
        random_model::write(shape, file_type, &path)?;
    }
    Ok(path)
}
