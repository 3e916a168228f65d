//! `train-task`: trains an adapter for a task on many users' items. Users' adapters can then be trained on top of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;
use cope_convert::say;
use cope_llama::home::{Home, Stage, UserName};
use cope_llama::profile::{self, Example, ImportOptions, Masked, Masking, Profile, lamp};
use cope_llama::train::{Training, train_locked};

use super::long_work::LongWork;
use super::options::count;
use super::train_options::TrainOptions;
use super::train_progress::{TrainProgress, Waiting};

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Name of the task
    task: String,
    /// Files with items of many users, in the formats of `user import`; all users of a LaMP file are taken
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Ids of users to leave out of LaMP files, separated by commas: those who are to get adapters of their own
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    except: Vec<String>,
    /// Number of newest items to take from each user of a LaMP file [default: all]
    #[arg(long, value_name = "N", value_parser = count)]
    per_user: Option<usize>,
    /// Keep passwords, keys, tokens, and numbers of cards, accounts and identity papers, which are masked otherwise
    #[arg(long)]
    keep_secrets: bool,
    #[command(flatten)]
    options: TrainOptions,
}

const EXAMPLES: &str = "\
The task adapter learns what all users have in common, so that a user's adapter
learns only what is their own. A user's adapter is trained on the base with the
task adapter, and decoding contrasts the user's model with that base.

Examples:
  cope-llama train-task headlines news_headline.json --except 42 --per-user 20
  cope-llama user import carol news_headline.json --lamp-user 42
  cope-llama train carol --task headlines";

pub fn run(home: &Home, args: &Args) -> Result<ExitCode> {
    let work = LongWork::begin();
    work.exit_code(train_task(home, args, &work))
}

fn train_task(home: &Home, args: &Args, work: &LongWork) -> Result<()> {
    let mut history = Vec::new();
    for file in &args.files {
        let (examples, masked) = items(file, args)?;
        history.extend(examples);
        for (kind, n) in masked {
            say!("{}: {n} masked: {kind}", file.display());
        }
    }
    let base_path = args.options.base.path(home, None)?;
    let waiting = Waiting::new(format!("reading {}", base_path.display()));
    let base = home.base_ref(&base_path)?;
    let folder = home.create_task(UserName::new(&args.task)?)?;
    let profile = Profile {
        history,
        held_out: Vec::new(),
    };
    say!("{}: {} items", folder.name(), profile.history.len());
    let mut progress = TrainProgress::new(args.options.less_memory_hint(), waiting);
    let mut config = args.options.config(&base_path)?;
    // A task adapter is not calibrated: users' adapters are, on top of it.
    config.hold_out = Some(0);
    config.replay = Some(0.0);
    let training = Training {
        folder: &folder,
        base_path: &base_path,
        base: &base,
        config: &config,
        stages: &[Stage::Sft],
        stop: Some(work.stop()),
    };
    let lock = folder.lock()?;
    folder.save_profile(&profile)?;
    train_locked(&lock, training, &mut |event| progress.tell(event, work))?;
    Ok(())
}

/// The items of a file, and how much in them was masked.
fn items(file: &Path, args: &Args) -> Result<(Vec<Example>, Masked)> {
    let masking = Masking {
        keeps_secrets: args.keep_secrets,
        ..Masking::default()
    };
    if !lamp::is_lamp(file)? {
        let options = ImportOptions {
            masking,
            ..ImportOptions::default()
        };
        let imported = profile::import(file, &options)?;
        return Ok((imported.examples, imported.masked));
    }
    let users = lamp::read(file)?.users.into_iter();
    let others = users.filter(|user| !args.except.contains(&user.id));
    let n = args.per_user.unwrap_or(usize::MAX);
    let mut examples: Vec<_> = others
        .flat_map(|user| profile::newest(&user.history, n).to_vec())
        .collect();
    let mut masked = Masked::new();
    for example in &mut examples {
        masking.mask(example.texts_mut(), &mut masked);
    }
    Ok((examples, masked))
}
