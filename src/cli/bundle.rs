//! `bundle`: a user's model as a folder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;
use cope_llama::bundle::{BasePlace, bundle};
use cope_llama::home::{Home, UserName};

#[derive(ClapArgs)]
#[command(after_help = "Examples:
  cope-llama bundle --user alice alice-bundle
  cope-llama bundle --user alice /media/stick/alice --copy

Its README.md says how to run it here and in other programs.")]
pub struct Args {
    /// Whose model
    #[arg(short, long)]
    user: String,
    /// The folder to make
    folder: PathBuf,
    /// Copy the base, in place of giving its file another name where the file system can do that
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
    bundle(home, &user, &args.folder, place)?;
    eprintln!(
        "{} is made; how to run it is in its README.md",
        args.folder.display()
    );
    Ok(())
}
