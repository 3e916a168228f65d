//! `eval families`: the reports of several bases side by side.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use cope_llama::eval::families::{FamilyReport, table};

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Reports, as `report --json` prints them
    #[arg(required = true, value_name = "FILE")]
    reports: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Example:
  cope-llama eval families smollm2.json gemma3.json qwen2.5.json";

pub fn run(args: &Args) -> Result<()> {
    let read = |path: &PathBuf| -> Result<FamilyReport> {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    };
    let reports: Vec<_> = args.reports.iter().map(read).collect::<Result<_>>()?;
    io::stdout().lock().write_all(table(&reports)?.as_bytes())?;
    Ok(())
}
