//! `user audit`: measures how much of a user's texts their adapter gives away.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use cope_llama::error::Missing;
use cope_llama::estimate::Estimate;
use cope_llama::home::{AuditRecord, ByArm, CanaryRecord, GivenBack, Home, Stage, UserName};
use cope_llama::train::audit::canary;
use cope_llama::train::{self, TrainConfig, Training};

use crate::cli::long_work::LongWork;
use crate::cli::train_progress::{TrainProgress, Waiting};

const EXAMPLES: &str = "\
The findings are recorded beside the adapter; `bundle` and `convert` show them
before the adapter leaves this machine. A training makes a new adapter, which
has no record.

Examples:
  cope-llama user audit alice
  cope-llama user audit alice --canaries 8";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditArgs {
    /// Name of the user
    user: String,
    /// Train a second adapter, with N invented numbers among the texts, and measure how well it remembers them; this takes as
    /// long as the training did. The second adapter is deleted again
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=canary::MAX as i64))]
    canaries: u8,
}

pub fn run(home: &Home, args: &AuditArgs) -> Result<ExitCode> {
    let work = LongWork::begin();
    work.exit_code(audit(home, args, &work))
}

fn audit(home: &Home, args: &AuditArgs, work: &LongWork) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    user.trained_adapter()?;
    let manifest = user.manifest()?.ok_or_else(|| {
        let user = user.name().to_string();
        cope_llama::Error::from(Missing::Manifest { user })
    })?;
    let base_path = home.base(&manifest.base.file);
    let mut base = home.base_ref(&base_path)?;
    base.task_sha256.clone_from(&manifest.base.task_sha256);
    let waiting = Waiting::new(format!(
        "reading {} and {}'s texts",
        base_path.display(),
        user.name()
    ));
    let mut progress = TrainProgress::new("", waiting);
    let audit = train::audit::Audit {
        user: &user,
        training: Training {
            folder: &user,
            base_path: &base_path,
            base: &base,
            config: &TrainConfig::from_manifest(&manifest),
            stages: &Stage::ALL,
            stop: Some(work.stop()),
        },
        n_canaries: args.canaries.into(),
    };
    let record = train::audit::audit(audit, &mut |event| progress.tell(event, work))?;
    write!(io::stdout().lock(), "{}", table(&record))?;
    Ok(())
}

/// The findings as a table, and a sentence after it for each kind that says how to read it.
fn table(record: &AuditRecord) -> String {
    let AuditRecord {
        trained,
        untrained,
        membership,
        canaries,
        ..
    } = record;
    let mut text = row("", &ByArm::from(["base", "user model", "CoPe"]));
    let n = GivenBack::N_TOKENS;
    for (what, texts) in [("trained", trained), ("other", untrained)] {
        if texts.n_texts > 0 {
            let of = |count: &usize| format!("{count} of {}", texts.n_texts);
            let any = format!("{n} tokens of {what} texts given back");
            text += &row(&any, &texts.any.map(of));
            text += &row("  the rarest in each", &texts.rarest.map(of));
        }
    }
    if let Some(membership) = membership {
        let area = |it: &Estimate| format!("{:.2} [{:.2}, {:.2}]", it.value, it.low, it.high);
        let by_logprob = membership.by_logprob.map(area);
        text += &row("trained texts told from others", &by_logprob);
        let by_gain = ByArm {
            base: "–".to_owned(),
            user: area(&membership.by_gain),
            cope: "–".to_owned(),
        };
        text += &row("  by what the user model adds", &by_gain);
    }
    if let Some(canaries) = canaries {
        let bits = canaries.exposure.map(|it| format!("{it:.1} bits"));
        text += &row("exposure of canaries", &bits);
        let of = |count: &usize| format!("{count} of {}", canaries.n_canaries);
        text += &row("  their numbers given back", &canaries.given_back.map(of));
    }
    text + "\n" + &explanation(record)
}

/// A row of the table.
fn row(what: &str, cells: &ByArm<impl ToString>) -> String {
    let mut row = format!("{what:<40}");
    for cell in cells.each() {
        // A string cannot fail to be written to.
        let _ = write!(row, " {:>18}", cell.to_string());
    }
    row + "\n"
}

fn explanation(record: &AuditRecord) -> String {
    let mut text = format!(
        "Given back: given the prompt and the text before, greedy decoding writes {} tokens or more as they stand in the \
         text, where the prompt does not hold them.\n",
        GivenBack::N_TOKENS
    );
    text += match &record.membership {
        Some(_) => {
            "Told from others: the share of pairs of a trained and another text of which the trained one is the likelier \
             one. 0.5 tells nothing, and 1 tells all to somebody who has a text and the adapter.\n"
        }
        None => {
            "Whether trained texts can be told from others was not measured: that takes 8 texts or more that were not \
             trained on (held out by `train`, or imported with --held-out).\n"
        }
    };
    if record.canaries.is_some() {
        let _ = writeln!(
            text,
            "Exposure: how much likelier than {} other numbers an invented one is that stood in one text, once: 1.4 bits \
             for one that was not remembered, 8 for the likeliest.",
            CanaryRecord::N_NUMBERS - 1
        );
    }
    text
}
