//! `user import`, `user list`, `user show`, `user delete`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::profile::{self, Example, ImportOptions, Part, Speaker};
use cope_llama::serve::{Identity, KeyOf};
use cope_llama::train::{Stage, StageRecord};

#[derive(Subcommand)]
pub enum Command {
    /// Add to a user's history what files hold
    #[command(after_help = IMPORT_EXAMPLES, group = ArgGroup::new("source").required(true), override_usage = IMPORT_USAGE)]
    Import(Import),
    /// The users, how much is known of each, and whether they are trained
    List,
    /// One user: history, base model, stages of training
    Show(Show),
    /// Make a key to the server, which replaces the one before; it is shown this once
    #[command(group = ArgGroup::new("whose").required(true))]
    Key(Key),
    /// Say under which address of mail other programs know a user
    Identity(Identify),
    /// Give all that is known of a user back, as files for other programs too
    Export(Export),
    /// Delete a user's folder: history, adapter, everything
    Delete(Delete),
}

const IMPORT_USAGE: &str = "\
cope-llama user import [OPTIONS] <USER> <FILES>...
       cope-llama user import <USER> --demo";

const IMPORT_EXAMPLES: &str = "\
Files are told apart by their extension:
  .jsonl     on each line {\"prompt\": \"…\", \"response\": \"…\"},
             or {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]}
  .txt, .md  one text: its title (or first line), then what the user wrote
  .json      a LaMP file; --lamp-user names the user in it; chats in
             ShareGPT's form, or exported by ChatGPT
  .csv, .tsv two columns, named by --columns
  .mbox      mails, those from --author taken, without what they quote
A folder is a Maildir, a git repository (commits by --author) or one of posts
in Markdown.

Examples:
  cope-llama user import alice --demo
  cope-llama user import bob letters.jsonl notes/*.md
  cope-llama user import bob more.jsonl --kept-apart
  cope-llama user import bob sent.mbox --author bob@example.org
  cope-llama user import bob ~/src/project --author bob@example.org
  cope-llama user import bob answers.csv --columns question,answer
  cope-llama user import carol news_headline.json --lamp-user 42

What is known already is not added again.";

#[derive(Args)]
pub struct Import {
    /// The user; made when there is none of that name
    user: String,
    /// What the user wrote
    #[arg(group = "source")]
    files: Vec<PathBuf>,
    /// Keep these items apart: never train on them, measure on them
    #[arg(long)]
    kept_apart: bool,
    /// The user's id in a LaMP file
    #[arg(long, value_name = "ID")]
    lamp_user: Option<String>,
    /// Whose mails, commits or posts are the user's own: an address of mail, a name or a part of it; may be given several
    /// times
    #[arg(long, value_name = "NAME")]
    author: Vec<String>,
    /// The columns of a CSV file that hold what was asked and what the user wrote
    #[arg(long, value_name = "PROMPT,RESPONSE", value_delimiter = ',')]
    columns: Vec<String>,
    /// Who of a chat is the user [default: assistant, and of exports human]
    #[arg(long, value_enum)]
    speaker: Option<SpeakerArg>,
    /// The history of alice, who is invented: 100 items and 12 kept apart
    #[arg(long, group = "source", conflicts_with_all = ["kept_apart", "lamp_user", "author", "columns", "speaker"])]
    demo: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum SpeakerArg {
    Assistant,
    Human,
}

#[derive(Args)]
pub struct Show {
    /// The user
    user: String,
}

#[derive(Args)]
pub struct Key {
    /// The user, whose key reaches this user's adapter and the base
    #[arg(group = "whose")]
    user: Option<String>,
    /// The administrator's key, which reaches all users' adapters
    #[arg(long, group = "whose")]
    admin: bool,
    /// Make none: the one that there is opens nothing any more
    #[arg(long)]
    revoke: bool,
}

#[derive(Args)]
pub struct Identify {
    /// The user
    user: String,
    /// The address, as Open WebUI has it; none forgets it
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
}

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

#[derive(Args)]
pub struct Delete {
    /// The user
    user: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub fn run(home: &Home, command: Command) -> Result<()> {
    match command {
        Command::Import(args) => import(home, &args),
        Command::List => list(home),
        Command::Show(args) => show(home, &args),
        Command::Key(args) => key(home, &args),
        Command::Identity(args) => identity(home, &args),
        Command::Export(args) => export(home, &args),
        Command::Delete(args) => delete(home, &args),
    }
}

fn export(home: &Home, args: &Export) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let _lock = user.lock()?;
    user.export(&args.folder)?;
    eprintln!("{} is in {}", user.name(), args.folder.display());
    Ok(())
}

fn key(home: &Home, args: &Key) -> Result<()> {
    let of = match &args.user {
        Some(name) => KeyOf::User(home.user(UserName::new(name)?)?),
        None => KeyOf::Admin,
    };
    if args.revoke {
        of.revoke(home)?;
        eprintln!("the key opens nothing any more");
    } else {
        writeln!(io::stdout(), "{}", of.make(home)?)?;
        eprintln!("only its hash is kept: it cannot be shown again");
    }
    Ok(())
}

fn identity(home: &Home, args: &Identify) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    match &args.email {
        Some(email) => Identity::new(email)?.keep(home, &user)?,
        None => Identity::forget(&user)?,
    }
    Ok(())
}

fn import(home: &Home, args: &Import) -> Result<()> {
    let name = UserName::new(&args.user)?;
    // All files are read before anything is made, so that a broken one leaves nothing behind.
    let parts = if args.demo { demo()? } else { files(args)? };
    let folder = home.create_user(name)?;
    let _lock = folder.lock()?;
    let mut profile = folder.profile()?;
    for (part, examples) in parts {
        let added = profile.add(part, examples);
        let place = match part {
            Part::History => "to the history",
            Part::KeptApart => "kept apart",
        };
        eprintln!(
            "{}: {} new {place}, {} known already",
            folder.name(),
            added.new,
            added.known
        );
    }
    folder.save_profile(&profile)?;
    Ok(())
}

fn files(args: &Import) -> Result<Vec<(Part, Vec<Example>)>> {
    let part = if args.kept_apart {
        Part::KeptApart
    } else {
        Part::History
    };
    let options = ImportOptions {
        lamp_user: args.lamp_user.clone(),
        authors: args.author.clone(),
        columns: match args.columns.as_slice() {
            [prompt, response] => Some([prompt.clone(), response.clone()]),
            [] => None,
            _ => bail!(
                "--columns are two, of prompts and of responses, as --columns question,answer"
            ),
        },
        speaker: args.speaker.map(|speaker| match speaker {
            SpeakerArg::Assistant => Speaker::Assistant,
            SpeakerArg::Human => Speaker::Human,
        }),
    };
    let mut examples = Vec::new();
    for file in &args.files {
        let imported = profile::import(file, &options)?;
        eprintln!("{}: {} taken", file.display(), imported.examples.len());
        for (why, n) in &imported.left {
            eprintln!("{}: {n} left: {why}", file.display());
        }
        examples.extend(imported.examples);
    }
    Ok(vec![(part, examples)])
}

fn demo() -> Result<Vec<(Part, Vec<Example>)>> {
    let parse = |name: &str, text: &str| profile::jsonl::parse(Path::new(name), text.as_bytes());
    let history = parse(
        "alice/history.jsonl",
        include_str!("../../models/alice/history.jsonl"),
    )?;
    let kept_apart = parse(
        "alice/kept_apart.jsonl",
        include_str!("../../models/alice/kept_apart.jsonl"),
    )?;
    Ok(vec![
        (Part::History, history),
        (Part::KeptApart, kept_apart),
    ])
}

fn list(home: &Home) -> Result<()> {
    let mut out = io::stdout().lock();
    for user in home.users()? {
        let profile = user.profile()?;
        let (history, kept_apart) = (profile.history.len(), profile.kept_apart.len());
        writeln!(
            out,
            "{:<20} {history:>5} items, {kept_apart} kept apart, {}",
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
        "history     {} items, {} kept apart",
        profile.history.len(),
        profile.kept_apart.len()
    )?;
    if let Some(manifest) = user.manifest()? {
        writeln!(
            out,
            "base        {} ({}, SHA-256 {})",
            manifest.base.file, manifest.base.architecture, manifest.base.sha256
        )?;
        for stage in [Stage::Sft, Stage::Mine, Stage::Dpo].map(|stage| stage.to_string()) {
            let record = manifest
                .stages
                .get(&stage)
                .cloned()
                .map(serde_json::from_value);
            if let Some(record) = record.transpose()? {
                writeln!(out, "{stage:<11} {}", summary(&record))?;
            }
        }
    }
    writeln!(out, "adapter     {}", state(&user))?;
    Ok(())
}

fn summary(record: &StageRecord) -> String {
    let figures = record
        .figures
        .iter()
        .map(|(name, figure)| format!(", {name} {figure:.3}"));
    format!("{:.0} s{}", record.seconds, figures.collect::<String>())
}

fn delete(home: &Home, args: &Delete) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    if !args.yes {
        if !io::stdin().is_terminal() {
            bail!(
                "nobody can be asked here: add --yes to delete {}",
                user.name()
            );
        }
        eprint!(
            "delete {} with {}? [y/N] ",
            user.path().display(),
            contents(&user)
        );
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            bail!("{} was not deleted", user.name());
        }
    }
    let name = user.name().clone();
    user.delete()?;
    eprintln!("{name} is deleted");
    Ok(())
}

/// What a deletion loses. A history that cannot be read can still be deleted.
fn contents(user: &UserFolder) -> String {
    let history = user.profile().map_or_else(
        |_| "its history".into(),
        |profile| format!("{} items", profile.history.len()),
    );
    format!("{history}, {}", state(user))
}
