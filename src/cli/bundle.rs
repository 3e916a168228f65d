//! `bundle`: exports a user's model as a folder.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args as ClapArgs;
use cope_convert::cli::signals;
use cope_convert::{Merged, say};
use cope_llama::bundle::{BasePlace, BundleOptions, BundleTarget, bundle};
use cope_llama::home::{Home, UserName};

use super::{UsageError, audit_text};

#[derive(ClapArgs)]
#[command(after_help = "Examples:
  cope-llama bundle --user alice alice-bundle
  cope-llama bundle --user alice /media/stick/alice --copy
  cope-llama bundle --user alice alice-ollama --for ollama
  cope-llama bundle --user alice ~/.lmstudio/models/cope-llama/alice --for lm-studio
  cope-llama bundle --user alice alice-peft --for peft --base-name owner/model

The README.md in the folder says how to run the model here and in other programs.")]
pub struct Args {
    /// User whose model to export
    #[arg(short, long)]
    user: String,
    /// Folder to create
    folder: PathBuf,
    /// The program that the folder is for
    #[arg(long = "for", value_enum, default_value = "llama-cpp")]
    target: BundleTarget,
    /// Copy the base model's file; without this, it is hard-linked where the file system allows
    #[arg(long)]
    copy: bool,
    /// With `--for peft`: the name under which transformers finds the base [default: as recorded]
    #[arg(long, value_name = "OWNER/MODEL")]
    base_name: Option<String>,
}

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let options = options(args)?;
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
    let merged = bundle(home, &user, &args.folder, &options, &stop)?;
    if let Some(Merged { kept, .. }) = merged {
        say!(
            "{:.0} % of the adapter's change is left after rounding to Q8_0; a merged model has lost the contrast",
            kept * 100.0
        );
    }
    say!(
        "created {}; its README.md says how to run the model",
        args.folder.display()
    );
    Ok(())
}

/// The choices about the bundle.
fn options(args: &Args) -> Result<BundleOptions> {
    if args.copy && !args.target.has_base() {
        let what = "--copy applies to bundles that hold the base's own file, those for llama-cpp and ollama-adapter; leave it out";
        return Err(UsageError(what.into()).into());
    }
    if args.base_name.is_some() && args.target != BundleTarget::Peft {
        let what = "--base-name applies to --for peft; leave it out";
        return Err(UsageError(what.into()).into());
    }
    Ok(BundleOptions {
        target: args.target,
        place: if args.copy {
            BasePlace::Copy
        } else {
            BasePlace::Link
        },
        base_name: args.base_name.clone(),
    })
}
