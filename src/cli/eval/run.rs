//! `eval run`: answers what is not answered yet.

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use cope_llama::eval::{Event, Shard, run as run_units, units};
use cope_llama::home::Home;
use cope_llama::train;
use indicatif::{ProgressBar, ProgressStyle};

use super::study::StudyArgs;
use crate::cli::interrupt;

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// The part of the users that is this machine's, the first being 0/N; of an array of jobs (Slurm, or indexed jobs of
    /// Kubernetes) /N is enough
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
}

const EXAMPLES: &str = "\
Ctrl-C stops; the same command goes on from there. Every adapter and every
answer is a file named by a hash of what it depends on.

Examples:
  cope-llama eval run --data lamp
  cope-llama eval run --data lamp --split query --protocol full --shard 0/2
  cope-llama eval run --data lamp --task product_review_wine --method oppu,cope";

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let shard = match &args.shard {
        None => Shard::WHOLE,
        Some(text) => parse_shard(text, job_index())?,
    };
    let study = args.study.study(home)?;
    let store = args.study.store(home)?;
    let units = units(&study, &args.study.methods(), shard);
    let stop = interrupt::flag()?;
    let progress = Progress::new();
    run_units(&study, &store, &units, &stop, &mut |event| {
        progress.tell(&event);
        Ok(())
    })?;
    eprintln!("{} of {0} units of work are done", units.len());
    Ok(())
}

/// Shows an evaluation that is under way: a bar at a terminal, else a line for each unit.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = "{wide_bar} {pos}/{len} {msg} {eta} left";
        // A template that is wrong is a bar that looks plain.
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self(bar)
    }

    pub fn tell(&self, event: &Event) {
        let bar = &self.0;
        match event {
            Event::Started { total, done } => {
                bar.reset();
                bar.set_length(*total as u64);
                bar.set_position(*done as u64);
                bar.reset_eta();
            }
            Event::Training { whose, event } => {
                if let train::Event::Started { stage, .. } = event {
                    bar.set_message(format!("{whose}: {stage}"));
                }
            }
            Event::Failed {
                whose,
                method,
                error,
            } => {
                bar.suspend(|| eprintln!("{whose}, {}: {error}", method.title()));
            }
            Event::Answered { answers, done } => {
                let what = format!(
                    "{} {}, {}",
                    answers.task,
                    answers.user,
                    answers.method.title()
                );
                bar.set_position(*done as u64);
                if bar.is_hidden() {
                    eprintln!("{done}: {what}: ROUGE-L {:.3}", answers.rouge_l());
                }
                bar.set_message(what);
                if Some(*done as u64) == bar.length() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// The number of this job in an array of jobs.
fn job_index() -> Option<usize> {
    let number = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    number("JOB_COMPLETION_INDEX").or_else(|| {
        let first = number("SLURM_ARRAY_TASK_MIN").unwrap_or(0);
        let step = number("SLURM_ARRAY_TASK_STEP").unwrap_or(1);
        let number = number("SLURM_ARRAY_TASK_ID")?.checked_sub(first)?;
        number.checked_div(step)
    })
}

fn parse_shard(text: &str, job_index: Option<usize>) -> Result<Shard> {
    let (index, count) = text
        .split_once('/')
        .with_context(|| format!("--shard {text}: write I/N, as 0/2"))?;
    let index = match index {
        "" => job_index.context("--shard /N needs an array of jobs; write I/N, as 0/2")?,
        index => index.parse().with_context(|| format!("--shard {text}"))?,
    };
    let count = count.parse().with_context(|| format!("--shard {text}"))?;
    Ok(Shard::new(index, count)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_named_or_the_jobs() {
        assert_eq!(parse_shard("1/3", None).unwrap(), Shard::new(1, 3).unwrap());
        assert_eq!(
            parse_shard("/3", Some(2)).unwrap(),
            Shard::new(2, 3).unwrap()
        );
        for (wrong, job) in [
            ("3/3", None),
            ("1", None),
            ("/3", None),
            ("/3", Some(3)),
            ("a/2", None),
            ("0/0", None),
        ] {
            assert!(parse_shard(wrong, job).is_err(), "{wrong}");
        }
    }
}
