//! `train`: from a user's history to their adapter.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::{ArgAction, Args as ClapArgs};
use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use cope_llama::home::{Home, Stage, UserName};
use cope_llama::train::mine::{Preference, SampleSource};
use cope_llama::train::{TrainConfig, Training, train};

use super::hint::with_hint;
use super::interrupt;
use super::options::count;
use super::train_options::{TrainOptions, named, positive, weight};
use super::train_progress::TrainProgress;

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
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        hide_possible_values = true,
        value_name = "sft|mine|dpo"
    )]
    stage: Vec<Stage>,
    /// Train on top of this task's adapter (`train-task`), which the base has too while decoding
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    #[command(flatten)]
    options: TrainOptions,
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
#[command(next_help_heading = "Stage mine: find what the user would not write")]
struct MineArgs {
    /// Whose samples they are: the base's, or the user's model's after the stage sft [default: user]
    #[arg(long, value_name = "base|user", value_parser = named::<SampleSource>)]
    sampler: Option<SampleSource>,
    /// What is preferred: the user's own text to the sample of the lowest reward, or the sample most like that text to the
    /// one least like it [default: likeness]
    #[arg(long, value_name = "reward|likeness", value_parser = named::<Preference>)]
    preference: Option<Preference>,
    /// Samples for each prompt
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
    /// And the most in lengths of the user's own text
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().mine.length_ratio)]
    sample_length: f32,
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
    /// Whether what a text is worth counts by token, whatever its length; without, a β of 0.1 is usual
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = TrainConfig::default().dpo.length_normalized)]
    length_normalized: bool,
    /// The weight of what keeps preferred texts likely in themselves (RPO); 0 for none
    #[arg(long, value_name = "X", value_parser = weight, default_value_t = TrainConfig::default().dpo.rpo_alpha)]
    rpo_alpha: f32,
}

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let users: Vec<String> = if args.all {
        let users = home.users()?;
        users.iter().map(|user| user.name().to_string()).collect()
    } else {
        args.users.clone()
    };
    if users.is_empty() {
        bail!("there are no users; `cope-llama user import NAME FILE…` makes one");
    }
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
                eprintln!("{name}: {}", with_hint(&error));
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
    let base_path = args.options.base.path(home, Some(&user))?;
    let mut base = home.base_ref(&base_path)?;
    if let Some(task) = &args.task {
        let task = home.task(UserName::new(task)?)?.sft();
        Adapter::read_gguf(&task)?.check_fits(&Gguf::open(&base_path)?, &base.sha256)?;
        base.task_sha256 = Some(user.add_task(&task)?);
    }
    let stages = match args.stage.as_slice() {
        [] => Stage::ALL.to_vec(),
        chosen => Vec::from_iter(chosen.iter().copied().collect::<BTreeSet<_>>()),
    };
    let mut progress = TrainProgress::new(args.options.smaller());
    let training = Training {
        folder: &user,
        base_path: &base_path,
        base: &base,
        config: &args.config(),
        stages: &stages,
    };
    train(training, &mut |event| progress.tell(event, stop))?;
    Ok(())
}

impl Args {
    fn config(&self) -> TrainConfig {
        let mut config = self.options.config();
        let mine = &mut config.mine;
        mine.sampler = self.mine.sampler.unwrap_or(mine.sampler);
        mine.preference = self.mine.preference.unwrap_or(mine.preference);
        config.mine.n_samples = self.mine.n_samples;
        config.mine.temperature = self.mine.sample_temp;
        config.mine.top_p = self.mine.sample_top_p;
        config.mine.length_ratio = self.mine.sample_length;
        config.mine.max_new_tokens = self.mine.sample_tokens;
        config.dpo.fit.learning_rate = self.dpo.dpo_learning_rate;
        config.dpo.fit.epochs = self.dpo.dpo_epochs;
        config.dpo.fit.batch_size = self.dpo.dpo_batch_size;
        config.dpo.beta = self.dpo.beta;
        config.dpo.length_normalized = self.dpo.length_normalized;
        config.dpo.rpo_alpha = self.dpo.rpo_alpha;
        config
    }
}
