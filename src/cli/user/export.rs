//! `user export`: copies everything stored about a user into a folder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use cope_convert::say;
use cope_llama::home::{Home, UserName};

#[derive(Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct Export {
    /// Name of the user
    user: String,
    /// Folder to create
    folder: PathBuf,
}

const EXPORT_EXAMPLES: &str = "\
The folder gets a copy of the user's files, except the hash of the key. Of these,
TRL reads history.jsonl (messages) and pairs.jsonl (chosen and rejected
responses). history.sharegpt.jsonl and pairs.sharegpt.jsonl have the same in
ShareGPT's format. The pairs are those of the stage mine and those from feedback.

Example:
  cope-llama user export alice alice-data";

pub fn run(home: &Home, args: &Export) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let _lock = user.lock()?;
    user.export(&args.folder)?;
    say!("exported {} to {}", user.name(), args.folder.display());
    Ok(())
}
