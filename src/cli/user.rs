//! `user`: the histories of users, their keys to the server, and the export or deletion of everything stored about them.

mod export;
mod import;
mod item;
#[cfg(feature = "serve")]
mod keys;
mod remove;
mod review;
#[cfg(feature = "train")]
mod run_audit;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use cope_convert::say;
use cope_llama::home::{Home, StageRecord, StartAdapter, UserFolder, UserName};

#[derive(Subcommand)]
pub enum Command {
    /// Import texts from files into a user's history
    Import(import::Import),
    /// List the users, the sizes of their histories, and whether they are trained
    List,
    /// Show one user: history, base model, stages of training
    Show(Show),
    /// Look through a user's items, to drop or edit them
    Review(review::Review),
    /// Remove items from a user's history, and what was made of them
    RemoveItem(remove::Remove),
    /// Create or revoke a key to the server
    #[cfg(feature = "serve")]
    Key(keys::KeyArgs),
    /// Set the e-mail address by which Open WebUI identifies a user
    #[cfg(feature = "serve")]
    Identity(keys::IdentityArgs),
    /// Measure how much of a user's texts their adapter gives away
    #[cfg(feature = "train")]
    Audit(run_audit::AuditArgs),
    /// Export everything stored about a user, also in formats of other programs
    Export(export::Export),
    /// Delete everything stored about a user: history, adapter, feedback, chats, key
    Delete(Delete),
}

#[derive(Args)]
pub struct Show {
    /// Name of the user
    user: String,
}

#[derive(Args)]
pub struct Delete {
    /// Name of the user
    user: String,
    /// Delete without asking
    #[arg(long)]
    yes: bool,
}

pub fn run(home: &Home, command: Command) -> Result<ExitCode> {
    match command {
        Command::Import(args) => import::run(home, &args)?,
        Command::List => list(home)?,
        Command::Show(args) => show(home, &args)?,
        Command::Review(args) => review::run(home, &args)?,
        Command::RemoveItem(args) => remove::run(home, &args)?,
        #[cfg(feature = "serve")]
        Command::Key(args) => keys::key(home, &args)?,
        #[cfg(feature = "serve")]
        Command::Identity(args) => keys::identity(home, &args)?,
        #[cfg(feature = "train")]
        Command::Audit(args) => return run_audit::run(home, &args),
        Command::Export(args) => export::run(home, &args)?,
        Command::Delete(args) => delete(home, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(home: &Home) -> Result<()> {
    let mut out = io::stdout().lock();
    for user in home.users()? {
        let profile = user.profile()?;
        let (history, held_out) = (profile.history.len(), profile.held_out.len());
        writeln!(
            out,
            "{:<20} {history:>5} items, {held_out} held out, {}",
            user.name().as_str(),
            state(&user)
        )?;
    }
    Ok(())
}

fn state(user: &UserFolder) -> &'static str {
    if user.adapter().exists() {
        "trained"
    } else {
        "not trained"
    }
}

fn show(home: &Home, args: &Show) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let profile = user.profile()?;
    let mut out = io::stdout().lock();
    writeln!(out, "user        {}", user.name())?;
    writeln!(out, "folder      {}", user.path().display())?;
    writeln!(
        out,
        "history     {} items, {} held out",
        profile.history.len(),
        profile.held_out.len()
    )?;
    let manifest = user.manifest()?;
    if let Some(manifest) = &manifest {
        writeln!(
            out,
            "base        {} ({}, SHA-256 {})",
            manifest.base.file, manifest.base.architecture, manifest.base.sha256
        )?;
        for (stage, record) in &manifest.stages {
            writeln!(out, "{:<11} {}", stage.name(), summary(record))?;
        }
    }
    let adapter = manifest.and_then(|manifest| manifest.adapter);
    let start = adapter.and_then(|adapter| adapter.start);
    writeln!(
        out,
        "adapter     {}{}",
        state(&user),
        started(start.as_ref())
    )?;
    Ok(())
}

fn summary(record: &StageRecord) -> String {
    let figures = record
        .figures
        .iter()
        .map(|(name, figure)| format!(", {name} {figure:.3}"));
    format!(
        "{:.0} s{}{}",
        record.seconds,
        figures.collect::<String>(),
        started(record.start.as_ref())
    )
}

/// Says from whose adapter a training started; empty for one that started from random weights.
fn started(start: Option<&StartAdapter>) -> String {
    start.map_or_else(String::new, |StartAdapter { user, sha256 }| {
        format!(", started from {user}'s adapter (SHA-256 {sha256})")
    })
}

fn delete(home: &Home, args: &Delete) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    if !args.yes {
        if !io::stdin().is_terminal() {
            bail!(
                "cannot ask for confirmation, since stdin is not a terminal; add --yes to delete {}",
                user.name()
            );
        }
        let (path, contents) = (user.path().display(), contents(&user));
        write!(io::stderr(), "delete {path} with {contents}? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            bail!("{} was not deleted", user.name());
        }
    }
    let name = user.name().clone();
    user.delete()?;
    say!("deleted {name}");
    say_starts(home, &name)
}

/// Names the users whose adapters started from this user's and know what it knew.
fn say_starts(home: &Home, name: &UserName) -> Result<()> {
    for other in home.started_from(name)? {
        say!(
            "{other}'s adapter started from {name}'s and keeps what it learnt from it; train {other} again without it"
        );
    }
    Ok(())
}

/// Describes what a deletion loses. A history that cannot be read can still be deleted.
fn contents(user: &UserFolder) -> String {
    let history = user.profile().map_or_else(
        |_| "its history".into(),
        |profile| format!("{} items", profile.history.len()),
    );
    format!("{history}, {}", state(user))
}
