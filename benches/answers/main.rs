//! Figures of what a person sees in answers: loops, endings, copied facts, right answers. By arm, and by settings of decoding.
//!
//! ```text
//! cargo bench --bench answers -- --user HOME/NAME              # all arms, on the texts for the report
//! cargo bench --bench answers -- --user HOME/NAME --split dev  # on the texts for choosing settings
//! make smoke-answers                                           # a few answers of the base, in seconds
//! ```
//!
//! The prompts lie beside this file. Each has a split: settings are chosen on `dev`, and the report is of `test`.

mod interval;
mod loops;
mod score;
mod setting;
mod smoke;
mod speakers;
mod table;
mod texts;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use cope_llama::decode::ArmKind;
use serde_json::json;

use setting::{CANDIDATES, Setting};
use speakers::{BenchAnswer, BenchArm, Speakers};
use table::Outcome;
use texts::{Item, Split, TextKind};

#[derive(Parser)]
struct Options {
    /// The base, a GGUF file [default: the first user's, else the one that `model pull` downloads]
    #[arg(short = 'm', long = "base", value_name = "FILE")]
    base: Option<PathBuf>,
    /// A trained user, as the data folder and the user's name, or an adapter file; may be repeated
    #[arg(long = "user", value_name = "HOME/NAME|FILE")]
    users: Vec<PathBuf>,
    /// The arms [default: all three, or the base alone where there is no user]
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',')]
    arms: Vec<ArmKind>,
    /// Settings: `greedy` or `tX` for a temperature, then any of `+min-pX` (0.05 with a temperature), `+no-repeat` (which
    /// has the loop guard and may end in the length of the n-gram, 8) and `+guard`
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values = CANDIDATES)]
    settings: Vec<Setting>,
    /// The number of drawn answers to each prompt; a greedy setting gives one
    #[arg(long, default_value_t = 3)]
    seeds: u32,
    /// The texts: for choosing settings, for the report, or both, where nothing was chosen on them
    #[arg(long = "split", value_enum, value_name = "SPLIT", num_args = 1.., value_delimiter = ',', default_value = "test")]
    splits: Vec<Split>,
    /// The files of prompts
    #[arg(long, value_enum, value_name = "KIND", num_args = 1.., value_delimiter = ',',
        default_values = ["manner", "everyday", "notes", "questions"])]
    kinds: Vec<TextKind>,
    /// Only this many prompts of each file, evenly spaced [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The most tokens of an answer; answers to notes and questions have lower limits of their own
    #[arg(short, long, default_value_t = 512)]
    n_predict: usize,
    /// α of CoPe [default: the adapter's]
    #[arg(long, value_name = "X")]
    contrast: Option<f32>,
    /// The scale of the users' adapters
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    scale: f32,
    /// The number of answers that are decoded at once
    #[arg(long, default_value_t = 16)]
    sequences: usize,
    /// Number of threads to compute with [default: one per core]; one is the fastest where other programs are running
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Write each answer with its figures to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Check a few short answers of the base by every setting, in seconds
    #[arg(long)]
    smoke: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let speakers = Speakers::load(&options)?;
    if options.smoke {
        return smoke::run(&options, &speakers);
    }
    let items = texts::items(&options.kinds, &options.splits, options.limit)?;
    let arms = arms(&options, &speakers)?;
    let mut file = options.save.as_ref().map(File::create).transpose()?;
    println!(
        "{}, {} prompts, at most {} tokens; 95 % intervals",
        speakers.base_name(),
        items.len(),
        options.n_predict
    );
    print!("{}", table::HEAD);
    for arm in &arms {
        for setting in &options.settings {
            let started = Instant::now();
            let answers = speakers.answer(&options, arm, setting, &items)?;
            let seconds = started.elapsed().as_secs_f64();
            let outcomes: Vec<_> = answers
                .iter()
                .map(|answer| Outcome::new(&items[answer.item], answer))
                .collect();
            println!("{}", table::row(&arm.title(), setting, &outcomes, seconds));
            if let Some(file) = &mut file {
                for (answer, outcome) in answers.iter().zip(&outcomes) {
                    let line = saved(arm, setting, &items[answer.item], answer, outcome);
                    writeln!(file, "{line}")?;
                }
            }
        }
    }
    Ok(())
}

/// The arms to measure: the base once, and the others for each user.
fn arms<'a>(options: &Options, speakers: &'a Speakers) -> Result<Vec<BenchArm<'a>>> {
    ensure!(!options.settings.is_empty(), "no settings are named");
    let kinds = match options.arms.as_slice() {
        [] if speakers.users.is_empty() => &[ArmKind::Base],
        [] => &ArmKind::ALL[..],
        kinds => kinds,
    };
    let mut arms = Vec::new();
    for kind in kinds {
        match kind {
            ArmKind::Base => arms.push(BenchArm::Base),
            _ if speakers.users.is_empty() => {
                bail!("the arm {} needs a user; add --user", kind.title())
            }
            ArmKind::User => arms.extend(speakers.users.iter().map(BenchArm::User)),
            ArmKind::Cope => arms.extend(speakers.users.iter().map(BenchArm::Cope)),
        }
    }
    Ok(arms)
}

/// The line of an answer in the file of answers.
fn saved(
    arm: &BenchArm,
    setting: &Setting,
    item: &Item,
    answer: &BenchAnswer,
    outcome: &Outcome,
) -> serde_json::Value {
    json!({
        "arm": arm.title(),
        "settings": setting.name(),
        "seed": answer.seed,
        "kind": format!("{:?}", item.kind),
        "prompt": item.prompt,
        "answer": answer.text,
        "finish": format!("{:?}", answer.finish),
        "loop": outcome.is_loop,
        "right": outcome.is_right,
    })
}
