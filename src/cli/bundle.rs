//! `bundle`: exports a user's model as a folder.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args as ClapArgs;
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::bundle::{BasePlace, bundle};
use cope_llama::home::{Home, UserName};

use super::audit_text;

#[derive(ClapArgs)]
#[command(after_help = "Examples:
  cope-llama bundle --user alice alice-bundle
  cope-llama bundle --user alice /media/stick/alice --copy

The README.md in the folder says how to run the model here and in other programs.")]
pub struct Args {
    /// User whose model to export
    #[arg(short, long)]
    user: String,
    /// Folder to create
    folder: PathBuf,
    /// Copy the base model's file; without this, it is hard-linked where the file system allows
    #[arg(long)]
    copy: bool,
}

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let place = if args.copy {
        BasePlace::Copy
    } else {
        BasePlace::Link
    };
    match user.audit_record()? {
        Some(record) => say!("{}", audit_text::summary(&record)),
        None if cfg!(feature = "train") => say!(
            "no audit is recorded of what the adapter gives back of {0}'s texts; `cope-llama user audit {0}` makes one",
            user.name()
        ),
        None => {}
    }
    let stop = Arc::default();
    signals::stop_sets(&stop);
    bundle(home, &user, &args.folder, place, &stop)?;
    say!(
        "created {}; its README.md says how to run the model",
        args.folder.display()
    );
    Ok(())
}
