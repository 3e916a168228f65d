//! `eval tune`: chooses settings on `dev`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use cope_llama::Error;
use cope_llama::eval::{CHOICES, Split, TaskSettings, Trial, TunedSetting, tune};
use cope_llama::home::{Home, append_jsonl, read_jsonl, write_atomic};
use serde_json::Value;

use super::run::Progress;
use super::study::{StudyArgs, read_json};
use crate::cli::long_work::LongWork;

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// Choose only settings whose names contain one of these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    setting: Vec<String>,
    /// Append every trial to this file, one per line, unless it is there already
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the chosen settings to this file, for --settings; its settings of other tasks stay
    #[arg(long, value_name = "FILE")]
    chosen: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Settings are chosen one after the other, each by the ROUGE-L on dev of the method
that depends on it most. Trials are kept, and the same command resumes the work.

Examples:
  cope-llama eval tune --data lamp --protocol full --task product_review_wine --chosen settings.json
  cope-llama eval tune --data lamp --protocol full --setting contrast,plausibility --log trials.jsonl";

pub fn run(home: &Home, args: &Args) -> Result<ExitCode> {
    let work = LongWork::begin();
    work.exit_code(tune_tasks(home, args, &work))
}

fn tune_tasks(home: &Home, args: &Args, work: &LongWork) -> Result<()> {
    let mut study = args.study.study(home)?;
    ensure!(
        study.split == Split::Dev,
        "settings are chosen on dev, since query is for the report: leave out --split"
    );
    let choices: Vec<TunedSetting> = CHOICES
        .into_iter()
        .filter(|choice| {
            args.setting.is_empty()
                || args
                    .setting
                    .iter()
                    .any(|name| choice.setting.contains(name.as_str()))
        })
        .collect();
    ensure!(!choices.is_empty(), "no setting has such a name");
    let store = args.study.store(home)?;
    let progress = Progress::new();
    let mut logged: Vec<Trial> = match &args.log {
        Some(log) => read_jsonl(log)?,
        None => Vec::new(),
    };
    let mut out = io::stdout().lock();
    for task in std::mem::take(&mut study.tasks) {
        study.tasks = vec![task];
        tune(
            &mut study,
            &store,
            &choices,
            work.stop(),
            &mut |event| {
                progress.show(&event, work);
                Ok(())
            },
            &mut |trial| {
                let line = serde_json::to_string(trial).map_err(Error::input)?;
                writeln!(out, "{line}").map_err(Error::io("write", "stdout"))?;
                // A command that resumes prints earlier trials again, but does not log them again.
                match &args.log {
                    Some(log) if !logged.contains(trial) => {
                        logged.push(trial.clone());
                        append_jsonl(log, trial)
                    }
                    _ => Ok(()),
                }
            },
        )?;
        if let Some(path) = &args.chosen {
            let task = &study.tasks[0];
            keep(path, &task.name, &task.settings)?;
        }
    }
    Ok(())
}

/// Writes the settings of a task that differ from the default into a file of settings by task.
fn keep(path: &Path, task: &str, settings: &TaskSettings) -> Result<()> {
    let mut all: BTreeMap<String, Value> = if path.exists() {
        read_json(path)?
    } else {
        BTreeMap::new()
    };
    all.insert(task.to_owned(), settings.changes());
    write_atomic(path, |file| {
        serde_json::to_writer_pretty(&mut *file, &all)?;
        file.write_all(b"\n")
    })?;
    Ok(())
}
