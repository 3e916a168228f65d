//! `train`: trains users' adapters on their histories.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args as ClapArgs};
use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use cope_convert::say;
use cope_llama::home::{BaseRef, Home, Stage, UserFolder, UserName};
use cope_llama::train::mine::{Preference, SampleSource};
use cope_llama::train::{TrainConfig, Training, train};

use super::hint::with_hint;
use super::long_work::LongWork;
use super::options::count;
use super::train_options::{TrainOptions, positive, weight};
use super::train_progress::{TrainProgress, Waiting};

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Users to train, one after the other
    #[arg(value_name = "USER", required_unless_present = "all")]
    users: Vec<String>,
    /// Train all users, one after the other
    #[arg(long, conflicts_with = "users")]
    all: bool,
    /// Stages to run, separated by commas; a stage whose inputs have not changed is skipped [default: all]
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        hide_possible_values = true,
        value_name = "sft|mine|dpo|calibrate"
    )]
    stage: Vec<Stage>,
    /// Train on top of this task's adapter (see `train-task`); while decoding, the base carries it too
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Start from a copy of this user's adapter (of the stage sft), with its rank, alpha and target modules, instead of
    /// from random weights; meant for a history of fewer than 30 texts. What that user's texts have taught it lives on in
    /// the new adapter
    #[arg(long, value_name = "NAME", conflicts_with_all = ["all", "rank", "lora_alpha", "target_modules"])]
    from: Option<String>,
    /// Put the adapter of the training before back instead of training; it is kept until the next training
    #[arg(long, conflicts_with_all = ["all", "stage", "task", "from"])]
    undo: bool,
    #[command(flatten)]
    options: TrainOptions,
    #[command(flatten)]
    replay: ReplayArgs,
    #[command(flatten)]
    mine: MineArgs,
    #[command(flatten)]
    dpo: DpoArgs,
    #[command(flatten)]
    calibrate: CalibrateArgs,
}

const EXAMPLES: &str = "\
Each stage writes its result to the user's folder (sft.gguf, pairs.jsonl,
dpo.gguf, adapter.gguf), a line of metrics per step to train.jsonl, and its
settings and a hash of its inputs to manifest.json. Ctrl-C, SIGTERM and SIGHUP
stop the training with exit code 75, or 1 where it did not get further; the same
command resumes it. A stage whose inputs have not changed is skipped.
When the training of one of several users fails, the others are still trained.

Examples:
  cope-llama train alice
  cope-llama train alice --undo
  cope-llama train alice --stage sft --learning-rate 1e-3 --epochs 3
  cope-llama train bob -m other.gguf --rank 16 --target-modules q,k,v,o
  cope-llama train carol --from bob
  cope-llama train --all --epochs 8 --patience 2";

/// A history of fewer texts may gain from an adapter that others' texts have trained.
const FEW_TEXTS: usize = 30;

#[derive(ClapArgs)]
#[command(next_help_heading = "Stage mine: sample texts that the user would not write")]
struct MineArgs {
    /// Model that draws the samples: the base, or the user's model after the stage sft [default: user]
    #[arg(
        long,
        value_enum,
        value_name = "base|user",
        hide_possible_values = true
    )]
    sampler: Option<SampleSource>,
    /// How pairs are chosen: reward prefers the user's own text to the sample of the lowest reward; likeness prefers the
    /// sample most like that text to the sample least like it [default: likeness]
    #[arg(
        long,
        value_enum,
        value_name = "reward|likeness",
        hide_possible_values = true
    )]
    preference: Option<Preference>,
    /// Samples per prompt
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().mine.n_samples)]
    n_samples: usize,
    /// Sampling temperature
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().mine.temperature)]
    sample_temp: f32,
    /// Nucleus sampling (top-p): draw among the most probable tokens whose probabilities sum to X
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().mine.top_p)]
    sample_top_p: f32,
    /// Maximum length of a sample, in tokens
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().mine.max_new_tokens)]
    sample_tokens: usize,
    /// Maximum length of a sample, as a multiple of the user's own text; the smaller of both limits holds
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().mine.length_ratio)]
    sample_length: f32,
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Stage sft: learn the user's texts")]
struct ReplayArgs {
    /// Answers of the base to everyday prompts that are learnt too, for each text of the user, so that the model forgets
    /// less of what the base knows; 0 for none [default: 0.5]
    #[arg(long, value_name = "X", value_parser = weight)]
    replay: Option<f32>,
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Stage dpo: learn to prefer the better text of each pair")]
struct DpoArgs {
    /// Peak learning rate
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().dpo.fit.learning_rate)]
    dpo_learning_rate: f32,
    /// Passes over the pairs (epochs)
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().dpo.fit.epochs)]
    dpo_epochs: usize,
    /// Pairs per optimizer step
    #[arg(long, value_name = "N", value_parser = count, default_value_t = TrainConfig::default().dpo.fit.batch_size)]
    dpo_batch_size: usize,
    /// β of DPO: the factor of the reward margin in the loss −log σ(β·margin)
    #[arg(long, value_name = "X", value_parser = positive, default_value_t = TrainConfig::default().dpo.beta)]
    beta: f32,
    /// Whether a text's reward is divided by its length in tokens; without that, a β of 0.1 is usual
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = TrainConfig::default().dpo.length_normalized)]
    length_normalized: bool,
    /// Weight of the preferred texts' negative log-likelihood, which is added to DPO's loss (RPO); 0 leaves it out
    #[arg(long, value_name = "X", value_parser = weight, default_value_t = TrainConfig::default().dpo.rpo_alpha)]
    rpo_alpha: f32,
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Stage calibrate: choose the adapter's scale and the contrast")]
struct CalibrateArgs {
    /// Number of the history's newest texts to hold out, which are not trained on, to choose scale and contrast on; 0
    /// trains on all texts and uses the defaults [default: a tenth, at least 8, of 40 texts or more; else 0]
    #[arg(long, value_name = "N")]
    hold_out: Option<usize>,
    /// Use the adapter after the stage dpo even where the one after sft makes the texts held out more likely
    #[arg(long)]
    keep_dpo: bool,
}

pub fn run(home: &Home, args: &Args) -> Result<ExitCode> {
    if args.undo {
        undo(home, &args.users)?;
        return Ok(ExitCode::SUCCESS);
    }
    let work = LongWork::begin();
    work.exit_code(train_users(home, args, &work))
}

fn train_users(home: &Home, args: &Args, work: &LongWork) -> Result<()> {
    let users: Vec<String> = if args.all {
        let users = home.users()?;
        users.iter().map(|user| user.name().to_string()).collect()
    } else {
        args.users.clone()
    };
    if users.is_empty() {
        bail!("there are no users; `cope-llama user import NAME FILE…` makes one");
    }
    let mut failed = Vec::new();
    for name in &users {
        if users.len() > 1 {
            say!("── {name}");
        }
        match train_user(home, args, name, work) {
            Ok(()) => {}
            // The only user's error, or a signal, ends the command.
            Err(error) if users.len() == 1 || work.is_stopped() => return Err(error),
            Err(error) => {
                say!("{name}: {}", with_hint(&error));
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

/// Puts the adapters of the trainings before back.
fn undo(home: &Home, users: &[String]) -> Result<()> {
    for name in users {
        let user = home.user(UserName::new(name)?)?;
        user.restore_previous(&user.lock()?)?;
        say!("{name} answers with the adapter of the training before again");
    }
    Ok(())
}

fn train_user(home: &Home, args: &Args, name: &str, work: &LongWork) -> Result<()> {
    let user = home.user(UserName::new(name)?)?;
    let base_path = args.options.base.path(home, Some(&user))?;
    let waiting = Waiting::new(format!(
        "reading {} and {name}'s texts",
        base_path.display()
    ));
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
    let mut config = args.config(&base_path)?;
    if let Some(source) = &args.from {
        UserName::new(source)
            .and_then(|source| home.user(source))
            .and_then(|source| config.start_from(&source, &user, &base_path, &base))
            .with_context(|| format!("cannot start from {source}"))?;
    } else if args.task.is_none() && stages.contains(&Stage::Sft) {
        suggest_tasks(home, &user, &base)?;
    }
    let mut progress = TrainProgress::new(args.options.less_memory_hint(), waiting);
    let training = Training {
        folder: &user,
        base_path: &base_path,
        base: &base,
        config: &config,
        stages: &stages,
        stop: Some(work.stop()),
    };
    train(training, &mut |event| progress.tell(event, work))?;
    Ok(())
}

/// Names the task adapters of this base to a user whose history has few texts.
fn suggest_tasks(home: &Home, user: &UserFolder, base: &BaseRef) -> Result<()> {
    let n_texts = user.profile()?.history.len();
    if n_texts == 0 || n_texts >= FEW_TEXTS {
        return Ok(());
    }
    let mut options = Vec::new();
    for task in home.tasks()? {
        // A task whose manifest cannot be read is no reason to refuse a training without it.
        let manifest = task.manifest().ok().flatten();
        if manifest.is_some_and(|manifest| manifest.base.sha256 == base.sha256) {
            options.push(format!("--task {}", task.name()));
        }
    }
    if !options.is_empty() {
        say!(
            "{} has few texts ({n_texts}); a task adapter may help: {}",
            user.name(),
            options.join(" or ")
        );
    }
    Ok(())
}

impl Args {
    fn config(&self, base: &Path) -> Result<TrainConfig> {
        let mut config = self.options.config(base)?;
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
        config.replay = self.replay.replay;
        config.hold_out = self.calibrate.hold_out;
        config.keep_dpo = self.calibrate.keep_dpo;
        Ok(config)
    }
}
