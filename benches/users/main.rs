//! Does an adapter learn its user? Trains two real users of each task of `../shared/data/lamp` with the default
//! settings, and measures the mean log-probability a token of held-out texts: under the base, under the user's own
//! adapter after SFT and after DPO, and, as the control, under the other user's adapter.
//!
//! ```text
//! cargo bench --bench users -- --split dev --learning-rate 4e-3
//! ```
//!
//! Settings are chosen on the split `dev`; figures are reported on the split `query`. With `--few`, the bench compares
//! ways to train on a short history instead, and with `--calibrated` the parts of calibration's choice.

mod calibrated;
mod few;
mod written;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use cope_llama::bases;
use cope_llama::home::{AdapterFolder, BaseRef, Home, Stage, UserName};
use cope_llama::llama;
use cope_llama::profile::{Example, Profile, lamp};
use cope_llama::train::lora::{Lora, TargetModule};
use cope_llama::train::model::TrainModel;
use cope_llama::train::{Encoded, Encoder, TrainConfig, TrainEvent, Training, sft, train};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Tasks, each with two users; each of the two is the control of the other.
const USERS: [(&str, [&str; 2]); 2] = [
    ("news_headline_huffpost", ["Ed Mazza", "Lee Moran"]),
    ("product_review_wine", ["Kerin O’Keefe", "Roger Voss"]),
];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Split {
    Dev,
    Query,
}

#[derive(Parser)]
struct Options {
    /// The base model [default: the default base of the home folder]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// The folder of the LaMP files
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/lamp"))]
    data: PathBuf,
    /// The texts to measure on
    #[arg(long, value_enum, default_value = "query")]
    split: Split,
    /// Train on this many of the newest items of each history
    #[arg(long, default_value_t = 100)]
    items: usize,
    /// With `--split dev`: hold out this many of the history's newest items too
    #[arg(long, default_value_t = 0)]
    held_out: usize,
    /// Only tasks whose name holds this
    #[arg(long, default_value = "")]
    task: String,
    /// Run only SFT
    #[arg(long)]
    sft_only: bool,
    /// Train on this many of the newest items, from random weights, from the other user's adapter (of `--items`), and on
    /// top of a task adapter
    #[arg(long, value_name = "N", value_delimiter = ',')]
    few: Vec<usize>,
    /// Calibrate this many users of each of five tasks, and measure on `dev` what the chosen scale and contrast gain
    #[arg(long, value_name = "USERS")]
    calibrated: Option<usize>,
    /// With `--calibrated`: measure at most this many items of a user
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    dev_items: usize,
    #[arg(long)]
    learning_rate: Option<f32>,
    #[arg(long)]
    epochs: Option<usize>,
    #[arg(long)]
    rank: Option<usize>,
    #[arg(long, value_delimiter = ',')]
    target_modules: Option<Vec<TargetModule>>,
    #[arg(long)]
    dpo_learning_rate: Option<f32>,
    #[arg(long)]
    beta: Option<f32>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn config(&self) -> TrainConfig {
        let mut config = TrainConfig::default();
        if let Some(learning_rate) = self.learning_rate {
            config.sft.learning_rate = learning_rate;
        }
        if let Some(epochs) = self.epochs {
            config.sft.epochs = epochs;
        }
        if let Some(rank) = self.rank {
            config.lora.rank = rank;
            config.lora.lora_alpha = 2.0 * rank as f32;
        }
        if let Some(targets) = &self.target_modules {
            config.lora.target_modules.clone_from(targets);
        }
        if let Some(learning_rate) = self.dpo_learning_rate {
            config.dpo.fit.learning_rate = learning_rate;
        }
        if let Some(beta) = self.beta {
            config.dpo.beta = beta;
        }
        // The stages are compared with each other, so all items are trained on.
        config.hold_out = Some(0);
        config
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let path = match &options.model {
        Some(path) => path.clone(),
        None => Home::open()?.base(&bases::default_base().file),
    };
    let gguf = Gguf::open(&path)?;
    let bench = Bench {
        base: BaseRef {
            file: path.display().to_string(),
            sha256: cope_convert::sha256(&path)?,
            architecture: gguf.architecture()?.to_owned(),
            task_sha256: None,
        },
        gguf,
        vocabulary: llama::Model::load_vocabulary(&path)?,
        model: TrainModel::load(&Gguf::open(&path)?, TrainConfig::default().weight_type)?,
        home: tempfile::tempdir()?,
        path,
        options,
    };
    println!(
        "mean log-probability, nats a token; in brackets the 95 % interval over items of the difference"
    );
    if !bench.options.few.is_empty() {
        return few::table(&bench);
    }
    if let Some(n_users) = bench.options.calibrated {
        return calibrated::table(&bench, n_users);
    }
    let stages: &[&str] = if bench.options.sft_only {
        &["SFT"]
    } else {
        &["SFT", "SFT + DPO"]
    };
    print!("| task | user | items | base |");
    for stage in stages {
        print!(" {stage} | own − other's |");
    }
    println!(" margin before → after DPO | seconds |");
    println!(
        "|---|---|---|---|{}---|---|",
        "---|---|".repeat(stages.len())
    );
    bench
        .tasks()
        .try_for_each(|(task, users)| bench.rows(task, users))
}

fn examples(queries: &[lamp::Query]) -> impl Iterator<Item = Example> {
    queries.iter().map(|query| query.example.clone())
}

struct Bench {
    options: Options,
    path: PathBuf,
    base: BaseRef,
    gguf: Gguf,
    model: TrainModel,
    vocabulary: std::sync::Arc<llama::Model>,
    home: tempfile::TempDir,
}

impl Bench {
    /// The tasks that were asked for, each with its two users.
    fn tasks(&self) -> impl Iterator<Item = (&'static str, [&'static str; 2])> {
        let asked = move |(task, _): &(&str, _)| task.contains(&self.options.task);
        USERS.into_iter().filter(asked)
    }

    /// The file of a task.
    fn file(&self, task: &str) -> PathBuf {
        self.options.data.join(format!("{task}.json"))
    }

    /// The texts of the user `id`: the newest to train on, and later ones to measure on.
    fn profile(&self, lamp: &lamp::Lamp, id: &str) -> Result<Profile> {
        let mut users = lamp.users.iter();
        let user = users.find(|user| user.id == id).context("no such user")?;
        let mut history = user.history.clone();
        let held_out = match self.options.split {
            Split::Dev => {
                let first = history.len().saturating_sub(self.options.held_out);
                let mut held_out = history.split_off(first);
                held_out.extend(examples(&user.dev));
                held_out
            }
            Split::Query => examples(&user.query).collect(),
        };
        history.drain(..history.len().saturating_sub(self.options.items));
        Ok(Profile { history, held_out })
    }

    /// Prints a row for each of the two users, and one for both together.
    fn rows(&self, task: &str, users: [&str; 2]) -> Result<()> {
        let file = self.file(task);
        let lamp = lamp::read(&file)?;
        let encoder = Encoder::new(&self.vocabulary, self.model.shape().n_ctx)?;
        let mut trained = Vec::new();
        for user in users {
            let started = Instant::now();
            let profile = self.profile(&lamp, user)?;
            let (adapters, margins) = self.train(&profile)?;
            let seconds = started.elapsed().as_secs_f64();
            let items = encoder.examples(&profile.held_out, &file)?;
            trained.push((items, adapters, margins, seconds));
        }

        let mut both = Measured::default();
        for (user, [own, other]) in users.iter().zip([[0, 1], [1, 0]]) {
            let (items, own, margins, seconds) = &trained[own];
            let mut measured = Measured {
                base: logprobs(&self.model, None, items)?,
                stages: Vec::new(),
            };
            for (own, other) in own.iter().zip(&trained[other].1) {
                let measure = |lora| logprobs(&self.model, Some(lora), items);
                measured.stages.push((measure(own)?, measure(other)?));
            }
            println!("| {task} | {user} {measured} {margins} | {seconds:.0} |");
            both.extend(measured);
        }
        println!("| {task} | both {both} | |");
        Ok(())
    }

    /// Trains a user. Returns the adapters after SFT and after DPO, and the reward margin before and after DPO.
    fn train(&self, profile: &Profile) -> Result<(Vec<Lora>, String)> {
        let home = Home::at(self.home.path());
        let folder = home.create_user(UserName::new("bench")?)?;
        folder.save_profile(profile)?;
        let stages: &[Stage] = if self.options.sft_only {
            &[Stage::Sft]
        } else {
            &[Stage::Sft, Stage::Mine, Stage::Dpo]
        };
        let mut margins = "–".to_owned();
        let training = Training {
            folder: &folder,
            base_path: &self.path,
            base: &self.base,
            config: &self.options.config(),
            stages,
            stop: None,
        };
        train(training, &mut |event| {
            if let TrainEvent::Ended {
                stage: Stage::Dpo,
                figures,
            } = event
            {
                margins = format!(
                    "{:.2} → {:.2}",
                    figures["held_out/margin_before"], figures["held_out/margin"]
                );
            }
            Ok(())
        })?;
        let mut adapters = vec![self.lora(&folder.sft())?];
        if !self.options.sft_only {
            adapters.push(self.lora(&folder.dpo())?);
        }
        folder.delete()?;
        Ok((adapters, margins))
    }

    /// Runs some stages of training on `history`.
    fn run(
        &self,
        folder: &AdapterFolder,
        history: &[Example],
        base: &BaseRef,
        config: &TrainConfig,
        stages: &[Stage],
    ) -> Result<()> {
        folder.save_profile(&Profile {
            history: history.to_vec(),
            held_out: Vec::new(),
        })?;
        let training = Training {
            folder,
            base_path: &self.path,
            base,
            config,
            stages,
            stop: None,
        };
        Ok(train(training, &mut |_| Ok(()))?)
    }

    /// Reads an adapter, to measure it.
    fn lora(&self, path: &Path) -> Result<Lora> {
        let adapter = Adapter::read_gguf(path)?;
        Ok(Lora::from_adapter(&adapter, self.model.shape())?)
    }
}

/// Measures each item under a model or under an adapter of it.
fn logprobs(model: &TrainModel, lora: Option<&Lora>, items: &[Encoded]) -> Result<Items> {
    let item = |item: &Encoded| {
        let n = item.response.len() as f64;
        Ok((
            n * sft::mean_logprob(model, lora, std::slice::from_ref(item), &mut || Ok(()))?,
            n,
        ))
    };
    items.iter().map(item).collect()
}

/// For each item, the sum of its tokens' log-probabilities in nats, and its number of tokens.
type Items = Vec<(f64, f64)>;

/// The measurements of some items: under the base, and after each stage under the user's own and the other user's
/// adapter.
#[derive(Default)]
struct Measured {
    base: Items,
    stages: Vec<(Items, Items)>,
}

impl Measured {
    fn extend(&mut self, more: Self) {
        self.base.extend(more.base);
        self.stages.resize(more.stages.len(), Default::default());
        for ((own, other), more) in self.stages.iter_mut().zip(more.stages) {
            own.extend(more.0);
            other.extend(more.1);
        }
    }
}

/// The cells of the table.
impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "| {} | {:.3} |", self.base.len(), mean(&self.base))?;
        for (own, other) in &self.stages {
            write!(f, " {:.3} | {} |", mean(own), difference(own, other))?;
        }
        Ok(())
    }
}

/// The mean log-probability over all items, in nats a token.
fn mean(items: &[(f64, f64)]) -> f64 {
    items.iter().map(|item| item.0).sum::<f64>() / items.iter().map(|item| item.1).sum::<f64>()
}

/// The difference of two means, and in brackets its 95 % interval, as a cell of a table.
fn difference(own: &[(f64, f64)], other: &[(f64, f64)]) -> String {
    let (low, high) = interval(own, other);
    let difference = mean(own) - mean(other);
    format!("{difference:+.3} [{low:+.3}, {high:+.3}]")
}

/// Adds the items of one user, under each of some models, to those of several users.
fn extend(all: &mut [Items], one: &[Items]) {
    for (all, one) in all.iter_mut().zip(one) {
        all.extend(one);
    }
}

/// The 95 % interval of `mean(own) − mean(other)`, by a paired bootstrap over the items.
fn interval(own: &[(f64, f64)], other: &[(f64, f64)]) -> (f64, f64) {
    const RESAMPLES: usize = 10_000;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut differences: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<usize> = own
                .iter()
                .map(|_| random.random_range(0..own.len()))
                .collect();
            let resampled =
                |items: &[(f64, f64)]| mean(&drawn.iter().map(|&i| items[i]).collect::<Vec<_>>());
            resampled(own) - resampled(other)
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    (
        differences[RESAMPLES / 40],
        differences[RESAMPLES - 1 - RESAMPLES / 40],
    )
}
