//! `eval run`: answers the queries that are not answered yet.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use cope_convert::say;
use cope_llama::eval::{Shard, StudyEvent, run as run_units, units};
use cope_llama::home::Home;
use cope_llama::train;
use indicatif::{ProgressBar, ProgressStyle};

use super::study::StudyArgs;
use crate::cli::long_work::LongWork;

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// The part of the users that this machine answers for: 0/N is the first of N parts. In an array of jobs (Slurm, or
    /// indexed jobs of Kubernetes) /N is enough
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
}

const EXAMPLES: &str = "\
Ctrl-C, SIGTERM and SIGHUP stop the work with exit code 75, or 1 where it did not
get further; the same command resumes it. Answers are files named
by a hash of everything that they depend on.

Examples:
  cope-llama eval run --data lamp
  cope-llama eval run --data lamp --split query --protocol full --shard 0/2
  cope-llama eval run --data lamp --task product_review_wine --method oppu,cope";

pub fn run(home: &Home, args: &Args) -> Result<ExitCode> {
    let work = LongWork::begin();
    work.exit_code(answer(home, args, &work))
}

fn answer(home: &Home, args: &Args, work: &LongWork) -> Result<()> {
    let shard = match &args.shard {
        None => Shard::WHOLE,
        Some(text) => parse_shard(text, &variable)?,
    };
    let study = args.study.study(home)?;
    let store = args.study.store(home)?;
    let units = units(&study, &args.study.methods(), shard);
    let progress = Progress::new();
    run_units(&study, &store, &units, work.stop(), &mut |event| {
        progress.show(&event, work);
        Ok(())
    })?;
    say!("{} of {0} units of work are done", units.len());
    Ok(())
}

/// Shows the progress of an evaluation: a bar at a terminal, else a line for each unit.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = "{wide_bar} {pos}/{len} {msg} {eta} left";
        // If the template were wrong, the bar would have the default style.
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self(bar)
    }

    /// Shows an event, and notes what got done for good.
    pub fn show(&self, event: &StudyEvent, work: &LongWork) {
        let bar = &self.0;
        match event {
            StudyEvent::Started { total, done } => {
                bar.reset();
                bar.set_length(*total as u64);
                bar.set_position(*done as u64);
                bar.reset_eta();
            }
            StudyEvent::Training { whose, event } => {
                if event.is_kept() {
                    work.note_progress();
                }
                if let train::TrainEvent::Started { stage, .. } = event {
                    bar.set_message(format!("{whose}: {stage}"));
                }
            }
            StudyEvent::Failed {
                whose,
                method,
                error,
            } => {
                bar.suspend(|| say!("{whose}, {}: {error}", method.title()));
            }
            StudyEvent::Answered { answers, done } => {
                work.note_progress();
                let what = format!(
                    "{} {}, {}",
                    answers.task,
                    answers.user,
                    answers.method.title()
                );
                bar.set_position(*done as u64);
                if bar.is_hidden() {
                    say!("{done}: {what}: ROUGE-L {:.3}", answers.rouge_l());
                }
                bar.set_message(what);
                if Some(*done as u64) == bar.length() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// The value of an environment variable, if it is set to a number.
fn variable(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// The index of this job in an array of `count` jobs. In an array of another size the index is not certain: the job may
/// be one of a larger array that is run again. The part then has to be named.
fn job_index(count: usize, variable: &dyn Fn(&str) -> Option<usize>) -> Result<usize> {
    if let Some(index) = variable("JOB_COMPLETION_INDEX") {
        return Ok(index);
    }
    let id = variable("SLURM_ARRAY_TASK_ID");
    let id = id.context("--shard /N needs an array of jobs; write I/N, such as 0/2")?;
    let n_jobs = variable("SLURM_ARRAY_TASK_COUNT").unwrap_or(count);
    ensure!(
        n_jobs == count,
        "--shard /{count} is for an array of {count} jobs, and this has {n_jobs}: write I/{count}"
    );
    let first = variable("SLURM_ARRAY_TASK_MIN").unwrap_or(0);
    let step = variable("SLURM_ARRAY_TASK_STEP").unwrap_or(1).max(1);
    Ok(id.saturating_sub(first) / step)
}

/// Parses `I/N`, or `/N` in an array of jobs.
fn parse_shard(text: &str, variable: &dyn Fn(&str) -> Option<usize>) -> Result<Shard> {
    let (index, count) = text
        .split_once('/')
        .with_context(|| format!("--shard {text}: write I/N, such as 0/2"))?;
    let count = count.parse().with_context(|| format!("--shard {text}"))?;
    let index = match index {
        "" => job_index(count, variable)?,
        index => index.parse().with_context(|| format!("--shard {text}"))?,
    };
    Ok(Shard::new(index, count)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_given_by_number_or_by_the_array_of_jobs() {
        let in_job = |text: &str, of_job: &[(&str, usize)]| {
            let variable = |name: &str| of_job.iter().find(|it| it.0 == name).map(|it| it.1);
            parse_shard(text, &variable).ok()
        };
        let shard = |index, count| Some(Shard::new(index, count).unwrap());
        let slurm = |id, first, step, count| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", first),
                ("SLURM_ARRAY_TASK_STEP", step),
                ("SLURM_ARRAY_TASK_COUNT", count),
            ]
        };
        assert_eq!(in_job("1/3", &[]), shard(1, 3));
        assert_eq!(in_job("/3", &[("JOB_COMPLETION_INDEX", 2)]), shard(2, 3));
        assert_eq!(in_job("/3", &slurm(3, 1, 1, 3)), shard(2, 3));
        assert_eq!(in_job("/3", &slurm(4, 0, 2, 3)), shard(2, 3));
        // One of three jobs that is run again alone has to be named.
        assert_eq!(in_job("/3", &slurm(3, 3, 1, 1)), None);
        assert_eq!(in_job("2/3", &slurm(3, 3, 1, 1)), shard(2, 3));
        assert_eq!(in_job("/3", &[("JOB_COMPLETION_INDEX", 3)]), None);
        for wrong in ["3/3", "1", "/3", "a/2", "0/0"] {
            assert_eq!(in_job(wrong, &[]), None, "{wrong}");
        }
    }
}
