//! `eval report`: prints tables of the answers' scores.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use cope_llama::eval::{Answers, Method, Report, Shard, Summary, Trial, figures, units};
use cope_llama::home::{Home, write_atomic, write_jsonl};

use super::study::{StudyArgs, main_tasks, read_lines};

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// Print all figures as JSON
    #[arg(long)]
    json: bool,
    /// Also write the scores of each answer to this file, without any text
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    /// Draw figures into this folder
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Trials, as `tune --log` writes them, for the report and its figures; of the same base and limits
    #[arg(long, value_name = "FILE")]
    trials: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
The options of the study are those of `run`.

Examples:
  cope-llama eval report --data lamp > report.md
  cope-llama eval report --data lamp --split query --protocol full --scores part-0.jsonl
  cope-llama eval report --data lamp --split query --protocol full --known part-0.jsonl --known part-1.jsonl";

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let study = args.study.study(home)?;
    let store = args.study.store(home)?;
    let units = units(&study, &args.study.methods(), Shard::WHOLE);
    let mut answers = Vec::new();
    for unit in &units {
        answers.extend(store.answers(&unit.key)?);
    }
    ensure!(
        !answers.is_empty(),
        "nothing of this study is answered yet: `cope-llama eval run` with the same options does it"
    );
    if let Some(path) = &args.scores {
        write_jsonl(path, &without_texts(&answers))?;
    }
    let mut trials = Vec::new();
    for path in &args.trials {
        let tried = read_lines::<Trial>(path)?;
        ensure!(
            tried
                .iter()
                .all(|it| it.base_sha256 == study.base.sha256 && it.limits == study.limits),
            "{}: trials of another base or other limits than this report's; leave them out",
            path.display()
        );
        trials.extend(tried);
    }
    let summary = Summary::new(&answers, &main_tasks(&study));
    if let Some(folder) = &args.figures {
        draw(folder, &summary, &answers, &trials)?;
    }
    let missing = units.len() - answers.len();
    let report = Report::new(&study, &store, missing, summary, trials)?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).context("cannot write the figures")?;
        writeln!(out)?;
    } else {
        out.write_all(report.markdown().as_bytes())?;
    }
    Ok(())
}

/// Draws the report's figures into `folder`.
fn draw(folder: &Path, summary: &Summary, answers: &[Answers], trials: &[Trial]) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let figures = [
        (
            "cope-over-tam",
            figures::gains(summary, Method::Cope, Method::Tam)?,
        ),
        (
            "cope-over-oppu",
            figures::gains(summary, Method::Cope, Method::Oppu)?,
        ),
        ("gain-by-history", figures::gains_by_history(answers)?),
        (
            "contrast",
            figures::curves(trials, "/decoding/cope/contrast")?,
        ),
        (
            "plausibility",
            figures::curves(trials, "/decoding/cope/plausibility")?,
        ),
    ];
    for (name, svg) in figures {
        if let Some(svg) = svg {
            let path = folder.join(format!("{name}.svg"));
            write_atomic(&path, |file| file.write_all(svg.as_bytes()))?;
        }
    }
    Ok(())
}

/// Copies answers without their texts, which may be private.
fn without_texts(answers: &[Answers]) -> Vec<Answers> {
    let mut answers = answers.to_vec();
    for prediction in answers.iter_mut().flat_map(|it| &mut it.predictions) {
        prediction.text = None;
    }
    answers
}
