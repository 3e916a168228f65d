//! `eval families`: prints the reports of several bases side by side.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;
use cope_llama::eval::families::{FamilyReport, table};

use super::study::read_json;

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Reports in JSON, as `report --json` prints them
    #[arg(required = true, value_name = "FILE")]
    reports: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Example:
  cope-llama eval families smollm2.json gemma3.json qwen2.5.json";

pub fn run(args: &Args) -> Result<()> {
    let reports = args.reports.iter().map(|path| read_json(path));
    let reports: Vec<FamilyReport> = reports.collect::<Result<_>>()?;
    io::stdout().lock().write_all(table(&reports)?.as_bytes())?;
    Ok(())
}
