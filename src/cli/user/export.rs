//! `user export`: all that is known of a user, given back.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use cope_llama::home::{Home, UserName};

#[derive(Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct Export {
    /// The user
    user: String,
    /// The folder to make
    folder: PathBuf,
}

const EXPORT_EXAMPLES: &str = "\
The folder has all files of the user's, and beside them
  history.jsonl, pairs.jsonl            as TRL reads them: messages, and pairs
                                        of chosen and rejected
  history.sharegpt.jsonl, pairs.sharegpt.jsonl
                                        the same in ShareGPT's form
Pairs are those that training has found and those that the user has judged.

Example:
  cope-llama user export alice alice-data";

pub fn run(home: &Home, args: &Export) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let _lock = user.lock()?;
    user.export(&args.folder)?;
    eprintln!("{} is in {}", user.name(), args.folder.display());
    Ok(())
}
