//! `user import`: a user's history from files.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, ValueEnum};
use cope_llama::home::{Home, UserName};
use cope_llama::profile::{self, Example, HistoryPart, ImportOptions, Speaker};

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
  cope-llama user import bob more.jsonl --held-out
  cope-llama user import bob sent.mbox --author bob@example.org
  cope-llama user import bob ~/src/project --author bob@example.org
  cope-llama user import bob answers.csv --columns question,answer
  cope-llama user import carol news_headline.json --lamp-user 42

What is known already is not added again.";

#[derive(Args)]
#[command(after_help = IMPORT_EXAMPLES, group = ArgGroup::new("source").required(true), override_usage = IMPORT_USAGE)]
pub struct Import {
    /// The user; made when there is none of that name
    user: String,
    /// What the user wrote
    #[arg(group = "source")]
    files: Vec<PathBuf>,
    /// Hold these items out: training never sees them, and what it has gained is measured on them
    #[arg(long, alias = "kept-apart")]
    held_out: bool,
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
    /// The history of alice, who is invented: 100 items and 12 held out
    #[arg(long, group = "source", conflicts_with_all = ["held_out", "lamp_user", "author", "columns", "speaker"])]
    demo: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum SpeakerArg {
    Assistant,
    Human,
}

pub fn run(home: &Home, args: &Import) -> Result<()> {
    let name = UserName::new(&args.user)?;
    // All files are read before anything is made, so that a broken one leaves nothing behind.
    let parts = if args.demo { demo()? } else { files(args)? };
    let folder = home.create_user(name)?;
    let _lock = folder.lock()?;
    let mut profile = folder.profile()?;
    for (part, examples) in parts {
        let added = profile.add(part, examples);
        let place = match part {
            HistoryPart::History => "to the history",
            HistoryPart::HeldOut => "held out",
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

fn files(args: &Import) -> Result<Vec<(HistoryPart, Vec<Example>)>> {
    let part = if args.held_out {
        HistoryPart::HeldOut
    } else {
        HistoryPart::History
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
    let imported: Vec<_> = (args.files.iter())
        .map(|file| profile::import(file, &options))
        .collect::<Result<_, _>>()?;
    let mut examples = Vec::new();
    for (file, imported) in args.files.iter().zip(imported) {
        eprintln!("{}: {} taken", file.display(), imported.examples.len());
        for (why, n) in &imported.left {
            eprintln!("{}: {n} left: {why}", file.display());
        }
        examples.extend(imported.examples);
    }
    Ok(vec![(part, examples)])
}

fn demo() -> Result<Vec<(HistoryPart, Vec<Example>)>> {
    let parse = |name: &str, text: &str| profile::jsonl::parse(Path::new(name), text.as_bytes());
    let history = parse(
        "alice/history.jsonl",
        include_str!("../../../models/alice/history.jsonl"),
    )?;
    let held_out = parse(
        "alice/held_out.jsonl",
        include_str!("../../../models/alice/held_out.jsonl"),
    )?;
    Ok(vec![
        (HistoryPart::History, history),
        (HistoryPart::HeldOut, held_out),
    ])
}
