//! `train`: from a user's history to their adapter.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use cope_llama::Error;
use cope_llama::home::{Home, UserName};
use cope_llama::train::fit::{FitConfig, Schedule};
use cope_llama::train::lora::TargetModule;
use cope_llama::train::{Event, Stage, TrainConfig, WeightType, train};
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt;
use super::options::BaseArg;

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// The users, one after the other
    #[arg(value_name = "USER", required_unless_present = "all")]
    users: Vec<String>,
    /// All users, one after the other
    #[arg(long, conflicts_with = "users")]
    all: bool,
    /// Stages to run, if what they depend on has changed [default: all]
    #[arg(long, value_delimiter = ',', value_parser = stage, value_name = "sft|mine|dpo")]
    stage: Vec<Stage>,
    /// Seed of the initial adapter, the order of the items, and the samples
    #[arg(short, long, value_name = "N", default_value_t = TrainConfig::default().seed)]
    seed: u64,
    /// Type that the base's weights are multiplied in [default: bf16 where the CPU does that itself, else f32]
    #[arg(long, value_name = "f32|bf16|quantized", value_parser = weight_type)]
    weights: Option<WeightType>,
    /// Compute activations again rather than keep them: a third slower, less memory, the same adapter
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    base: BaseArg,
    #[command(flatten)]
    adapter: AdapterArgs,
    #[command(flatten)]
    fit: FitArgs,
    #[command(flatten)]
    sft: SftArgs,
    #[command(flatten)]
    mine: MineArgs,
    #[command(flatten)]
    dpo: DpoArgs,
}

const EXAMPLES: &str = "\
Each stage leaves a file in the user's folder (sft.gguf, pairs.jsonl,
adapter.gguf), its figures in train.jsonl, and what it was made from in
manifest.json. Ctrl-C stops; the same command goes on from there. Of several
users, those that are done for the same inputs are passed over, and one who
fails does not keep the others from their turn.

Examples:
  cope-llama train alice
  cope-llama train alice --stage sft --learning-rate 1e-3 --epochs 3
  cope-llama train bob -m other.gguf --rank 16 --target-modules q,k,v,o
  cope-llama train --all --epochs 8 --patience 2";

#[derive(ClapArgs)]
#[command(next_help_heading = "Adapter")]
struct AdapterArgs {
    /// Rank of the adapter's matrices
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().lora.rank)]
    rank: usize,
    /// Its scale is this over the rank
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().lora.lora_alpha)]
    lora_alpha: f32,
    /// The layers of each block that it changes: q, k, v, o, gate, up, down
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = TrainConfig::default().lora.target_modules)]
    target_modules: Vec<TargetModule>,
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Stages sft and dpo")]
struct FitArgs {
    /// Items that are computed at a time; a step's gradient is the sum over them [default: all of a step]
    #[arg(long, value_name = "N", value_parser = count)]
    micro_batch_size: Option<usize>,
    /// How the learning rate falls to zero
    #[arg(long, value_name = "linear|cosine", value_parser = schedule, default_value = "linear")]
    schedule: Schedule,
    /// Part of the steps in which it rises before
    #[arg(long, value_name = "X", value_parser = part, default_value_t = TrainConfig::default().sft.warmup)]
    warmup: f32,
    /// Probability that a feature is kept from an adapter
    #[arg(long, value_name = "X", value_parser = part, default_value_t = TrainConfig::default().sft.dropout)]
    dropout: f32,
    /// AdamW's weight decay
    #[arg(long, value_name = "X", value_parser = part, default_value_t = TrainConfig::default().sft.weight_decay)]
    weight_decay: f32,
    /// Gradients longer than this are scaled down to it
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().sft.max_grad_norm)]
    max_grad_norm: f32,
    /// End after so many epochs without a gain on the texts kept apart, and go back to the best [default: go on]
    #[arg(long, value_name = "N", value_parser = count)]
    patience: Option<usize>,
}

impl FitArgs {
    fn set(&self, config: &mut FitConfig) {
        config.micro_batch_size = self.micro_batch_size.unwrap_or(0);
        config.schedule = self.schedule;
        config.warmup = self.warmup;
        config.dropout = self.dropout;
        config.weight_decay = self.weight_decay;
        config.max_grad_norm = self.max_grad_norm;
        config.patience = self.patience.unwrap_or(0);
    }
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Stage sft: learn the user's texts")]
struct SftArgs {
    /// Peak learning rate
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().sft.learning_rate)]
    learning_rate: f32,
    /// Passes over the history
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().sft.epochs)]
    epochs: usize,
    /// Items a step
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().sft.batch_size)]
    batch_size: usize,
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Stage mine: find what the user would not write")]
struct MineArgs {
    /// Samples of the base for each prompt, of which the least like the user is kept
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().mine.n_samples)]
    n_samples: usize,
    /// Temperature of the samples
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().mine.temperature)]
    sample_temp: f32,
    /// Nucleus of the samples
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().mine.top_p)]
    sample_top_p: f32,
    /// The most tokens of a sample
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().mine.max_new_tokens)]
    sample_tokens: usize,
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Stage dpo: prefer the one to the other")]
struct DpoArgs {
    /// Peak learning rate
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().dpo.fit.learning_rate)]
    dpo_learning_rate: f32,
    /// Passes over the pairs
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().dpo.fit.epochs)]
    dpo_epochs: usize,
    /// Pairs a step
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().dpo.fit.batch_size)]
    dpo_batch_size: usize,
    /// How strongly the reward counts against staying near the base
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().dpo.beta)]
    beta: f32,
}

fn stage(name: &str) -> Result<Stage, String> {
    let mut stages = [Stage::Sft, Stage::Mine, Stage::Dpo].into_iter();
    stages
        .find(|stage| stage.to_string() == name)
        .ok_or_else(|| "the stages are sft, mine and dpo".into())
}

fn weight_type(name: &str) -> Result<WeightType, String> {
    match name {
        "f32" => Ok(WeightType::F32),
        "bf16" => Ok(WeightType::Bf16),
        "quantized" => Ok(WeightType::Quantized),
        _ => Err("the types are f32, bf16 and quantized".into()),
    }
}

fn schedule(name: &str) -> Result<Schedule, String> {
    match name {
        "linear" => Ok(Schedule::Linear),
        "cosine" => Ok(Schedule::Cosine),
        _ => Err("the schedules are linear and cosine".into()),
    }
}

fn part(number: &str) -> Result<f32, String> {
    match number.parse() {
        Ok(part) if (0.0..1.0).contains(&part) => Ok(part),
        _ => Err("it must be at least 0 and below 1".into()),
    }
}

fn count(number: &str) -> Result<usize, String> {
    match number.parse() {
        Ok(0) | Err(_) => Err("it must be a whole number above 0".into()),
        Ok(number) => Ok(number),
    }
}

fn positive(number: &str) -> Result<f32, String> {
    let number: f32 = number.parse().map_err(|_| "not a number")?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("it must be above 0".into())
    }
}

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let users = if args.all {
        let names = home.users()?;
        names.iter().map(|user| user.name().to_string()).collect()
    } else {
        args.users.clone()
    };
    let stop = interrupt::flag()?;
    let mut failed = Vec::new();
    for name in &users {
        if users.len() > 1 {
            eprintln!("── {name}");
        }
        match train_user(home, args, name, &stop) {
            Ok(()) => {}
            // Alone, or told to stop: the error is the command's own.
            Err(error) if users.len() == 1 || stop.load(Ordering::Relaxed) => return Err(error),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!(
            "{} of {} users could not be trained: {}",
            failed.len(),
            users.len(),
            failed.join(", ")
        )
    }
}

fn train_user(home: &Home, args: &Args, name: &str, stop: &AtomicBool) -> Result<()> {
    let user = home.user(UserName::new(name)?)?;
    let base_path = args.base.path(home, Some(&user))?;
    let base = home.base_ref(&base_path)?;
    let stages = match args.stage.as_slice() {
        [] => vec![Stage::Sft, Stage::Mine, Stage::Dpo],
        chosen => chosen
            .iter()
            .copied()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect(),
    };
    let mut report = Report::new(match (args.weights, args.recompute) {
        (Some(WeightType::Quantized), true) => "",
        _ => "; less with --weights quantized --recompute",
    });
    train(
        &user,
        &base_path,
        &base,
        &args.config(),
        &stages,
        &mut |event| report.tell(event, stop),
    )?;
    Ok(())
}

impl Args {
    fn config(&self) -> TrainConfig {
        let mut config = TrainConfig {
            seed: self.seed,
            ..TrainConfig::default()
        };
        config.weight_type = self.weights.unwrap_or(config.weight_type);
        config.recompute = self.recompute;
        config.lora.rank = self.adapter.rank;
        config.lora.lora_alpha = self.adapter.lora_alpha;
        config
            .lora
            .target_modules
            .clone_from(&self.adapter.target_modules);
        self.fit.set(&mut config.sft);
        self.fit.set(&mut config.dpo.fit);
        config.sft.learning_rate = self.sft.learning_rate;
        config.sft.epochs = self.sft.epochs;
        config.sft.batch_size = self.sft.batch_size;
        config.mine.n_samples = self.mine.n_samples;
        config.mine.temperature = self.mine.sample_temp;
        config.mine.top_p = self.mine.sample_top_p;
        config.mine.max_new_tokens = self.mine.sample_tokens;
        config.dpo.fit.learning_rate = self.dpo.dpo_learning_rate;
        config.dpo.fit.epochs = self.dpo.dpo_epochs;
        config.dpo.fit.batch_size = self.dpo.dpo_batch_size;
        config.dpo.beta = self.dpo.beta;
        config
    }
}

/// Shows training: a bar a stage at a terminal (else a line), and its figures on stdout when it has ended.
struct Report {
    bar: ProgressBar,
    /// When the stage under way began.
    started: Instant,
    /// What would take less memory.
    smaller: &'static str,
}

impl Report {
    fn new(smaller: &'static str) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            started: Instant::now(),
            smaller,
        }
    }

    fn tell(&mut self, event: Event, stop: &AtomicBool) -> cope_llama::Result<()> {
        match event {
            Event::UpToDate { stage, figures } => {
                eprintln!("{stage} is done already");
                show(stage, &figures)
            }
            Event::Memory { bytes } => {
                let gigabytes = bytes as f64 / 1e9;
                eprintln!("memory: about {gigabytes:.1} GB{}", self.smaller);
                Ok(())
            }
            Event::Started { stage, total, done } => {
                self.start(stage, total, done);
                Ok(())
            }
            Event::Step { done, metrics, .. } => {
                if let Some(loss) = metrics.get("loss") {
                    self.bar.set_message(format!("loss {loss:.3}"));
                }
                self.bar.set_position(done as u64);
                if stop.load(Ordering::Relaxed) {
                    self.bar.abandon();
                    return Err(Error::Interrupted);
                }
                Ok(())
            }
            Event::Ended { stage, figures } => {
                self.bar.finish_and_clear();
                let ended = Instant::now();
                let seconds = (ended - std::mem::replace(&mut self.started, ended)).as_secs();
                eprintln!("{stage} took {seconds} s");
                let figures = figures
                    .into_iter()
                    .map(|(name, figure)| (name.to_owned(), figure))
                    .collect();
                show(stage, &figures)
            }
        }
    }

    fn start(&mut self, stage: Stage, total: usize, done: usize) {
        let what = match stage {
            Stage::Sft => "learning the user's texts",
            Stage::Mine => "finding what the user would not write",
            Stage::Dpo => "preferring the one to the other",
        };
        if !io::stderr().is_terminal() {
            eprintln!("{stage}: {what}, {total} steps");
        }
        let style = "{prefix} {wide_bar} {pos}/{len} {msg} {eta} left";
        self.bar = ProgressBar::new(total as u64)
            .with_position(done as u64)
            .with_prefix(format!("{stage}: {what}"));
        // A template that is wrong is a bar that looks plain.
        self.bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        self.bar.reset_eta();
    }
}

/// Prints what a stage has come to, on the texts kept apart where there are any.
fn show(stage: Stage, figures: &BTreeMap<String, f64>) -> cope_llama::Result<()> {
    let mut lines = Vec::new();
    if let Some(pairs) = figures.get("pairs") {
        lines.push(format!("{pairs} pairs"));
    }
    for (name, what) in [
        (
            "logprob",
            "log-probability of the texts kept apart, nats a token",
        ),
        ("margin", "reward margin on the pairs kept apart"),
    ] {
        let figure = |suffix| figures.get(&format!("kept_apart/{name}{suffix}"));
        if let (Some(before), Some(after)) = (figure("_before"), figure("")) {
            let change = after - before;
            lines.push(format!("{what}: {before:.3} → {after:.3} ({change:+.3})"));
        }
    }
    let mut out = io::stdout().lock();
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{stage}: {line}"))
        .map_err(Error::io("write", "the figures"))
}
