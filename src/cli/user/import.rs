//! `user import`: imports texts from files into a user's history.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgGroup, Args};
use cope_convert::say;
use cope_llama::home::{Home, UserName};
use cope_llama::profile::{
    self, Contact, Example, HistoryPart, ImportOption, ImportOptions, Imported, Masking, Profile,
    Speaker,
};

use super::item;
use crate::cli::UsageError;

const IMPORT_USAGE: &str = "\
cope-llama user import [OPTIONS] <USER> <FILES>...
       cope-llama user import <USER> --demo";

const IMPORT_EXAMPLES: &str = "\
JSON is recognised by its content: one item, a list of items, or one on each
line. An item is
  {\"prompt\": \"…\", \"response\": \"…\"}, also by the names of Alpaca (instruction,
  input, output), TRL (prompt, completion, chosen) and others (question, answer)
  {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]}, as for OpenAI
  {\"conversations\": [{\"from\": \"human\", \"value\": \"…\"}, …]}, as of ShareGPT
  {\"text\": \"…\"}, a text without a prompt
or the file is an export of ChatGPT, Claude, Gemini (MyActivity.json or .html),
DeepSeek, Grok, Open WebUI, LibreChat or SillyTavern, of which the person's
texts are taken (--speaker assistant takes the assistant's), or a LaMP file,
whose user --lamp-user names. Rows of Parquet files are items too.

Chats exported from WhatsApp, Telegram, Signal, LINE, Slack, Discord, Messenger,
Instagram and X are recognised by their content, too. The messages of --author
are taken, each with what it answers.

The extension of other files tells their format:
  .txt, .md   one item: the title (or first line) is the prompt, the rest is
              the user's text
  .csv, .tsv  a table, whose columns --columns names
  .mbox, .eml, .emlx
              e-mails; those sent by --author, or labelled as sent by Gmail,
              are taken, without quoted text, forwards and signatures
A folder is a git repository (commit messages by --author), or it is read for
all files of these kinds, a Maildir's mails and posts in Markdown. A zip archive
is read as a folder is: exports can be given as they were downloaded.

Examples:
  cope-llama user import alice --demo
  cope-llama user import bob letters.jsonl notes/*.md
  cope-llama user import bob chatgpt-export.zip takeout-001.zip
  cope-llama user import bob more.jsonl --held-out
  cope-llama user import bob sent.mbox --author bob@example.org
  cope-llama user import bob \"WhatsApp Chat with Ann.txt\" --author \"Bob Hill\"
  cope-llama user import bob ~/src/project --author bob@example.org
  cope-llama user import bob answers.csv --columns question,answer
  cope-llama user import carol news_headline.json --lamp-user 42
  cope-llama user import bob sent.mbox --author bob@example.org --dry-run
  cope-llama user import bob chat.txt --mask email,phone --mask-name \"Anna Berg\"

Items that the user already has are not added again.

Passwords, keys, tokens, PINs, seed phrases, and the numbers of cards, accounts
and identity papers are replaced by placeholders such as [password], in prompts
and in the user's texts, before anything is stored. See docs/secrets.md.";

#[derive(Args)]
#[command(after_help = IMPORT_EXAMPLES, group = ArgGroup::new("source").required(true), override_usage = IMPORT_USAGE)]
pub struct Import {
    /// Name of the user, who is created if there is none of this name
    user: String,
    /// Files, folders or zip archives with the user's texts
    #[arg(group = "source")]
    files: Vec<PathBuf>,
    /// Hold these items out: the model is not trained on them, and the gain of training is measured on them
    #[arg(long, alias = "kept-apart")]
    held_out: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    masking: MaskingArgs,
    /// Show what would be taken, masked, cut and left, with some of the items, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Import the history of alice, an invented person: 100 items and 12 held-out ones
    #[arg(long, group = "source", conflicts_with_all = ["held_out", "lamp_user", "author", "columns", "speaker", "keep_signature", "keep_secrets", "mask", "mask_name", "dry_run"])]
    demo: bool,
}

/// Facts that the files themselves do not state.
#[derive(Args)]
struct FormatArgs {
    /// Id of the user in a LaMP file
    #[arg(long, value_name = "ID")]
    lamp_user: Option<String>,
    /// Author whose messages, e-mails, commits or posts are the user's own: a name, an e-mail address or a telephone number,
    /// or for commits and posts a part of it; may be repeated
    #[arg(long, value_name = "NAME")]
    author: Vec<String>,
    /// Names of the columns of a table that hold the prompts and the user's responses
    #[arg(long, value_name = "PROMPT,RESPONSE", value_delimiter = ',')]
    columns: Vec<String>,
    /// Speaker of a chat whose texts are the user's [default: assistant, and human in exports of programs]
    #[arg(
        long,
        value_enum,
        value_name = "assistant|human",
        hide_possible_values = true
    )]
    speaker: Option<Speaker>,
    /// Keep the signatures of e-mails
    #[arg(long)]
    keep_signature: bool,
}

/// The secrets and contacts that are masked.
#[derive(Args)]
struct MaskingArgs {
    /// Keep passwords, keys, tokens, and numbers of cards, accounts and identity papers, which are masked otherwise
    #[arg(long)]
    keep_secrets: bool,
    /// Mask these too: e-mail addresses (except those of --author), phone numbers, IP addresses
    #[arg(
        long,
        value_enum,
        value_name = "email,phone,ip",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    mask: Vec<Contact>,
    /// Mask this name wherever it stands as a whole word; may be repeated
    #[arg(long, value_name = "NAME")]
    mask_name: Vec<String>,
}

pub fn run(home: &Home, args: &Import) -> Result<()> {
    let name = UserName::new(&args.user)?;
    // All files are read before the user is created, so that a malformed one leaves nothing behind.
    let parts = if args.demo { demo()? } else { files(args)? };
    if args.dry_run {
        let stored = home.user(name.clone()).ok();
        let stored = stored.map(|user| user.profile()).transpose()?;
        add(
            &name,
            &mut stored.unwrap_or_default(),
            parts,
            "would be added",
        );
        say!("nothing was stored; the same command without --dry-run stores it");
        return Ok(());
    }
    let folder = home.create_user(name)?;
    let _lock = folder.lock()?;
    let mut profile = folder.profile()?;
    add(folder.name(), &mut profile, parts, "added");
    folder.save_profile(&profile)?;
    Ok(())
}

/// Adds examples to a profile, and says how many there are; `added` is what happens to them.
fn add(
    user: &UserName,
    profile: &mut Profile,
    parts: Vec<(HistoryPart, Vec<Example>)>,
    added: &str,
) {
    for (part, examples) in parts {
        let n = profile.add(part, examples);
        let place = match part {
            HistoryPart::History => "to the history",
            HistoryPart::HeldOut => "to the held-out texts",
        };
        say!(
            "{user}: {} {added} {place}, {} already there",
            n.new,
            n.known
        );
    }
}

fn files(args: &Import) -> Result<Vec<(HistoryPart, Vec<Example>)>> {
    let part = if args.held_out {
        HistoryPart::HeldOut
    } else {
        HistoryPart::History
    };
    let options = ImportOptions {
        lamp_user: args.format.lamp_user.clone(),
        authors: args.format.author.clone(),
        columns: match args.format.columns.as_slice() {
            [prompt, response] => Some([prompt.clone(), response.clone()]),
            [] => None,
            _ => {
                let what = "--columns takes two names, that of the prompts and that of the responses, for example --columns question,answer";
                return Err(UsageError(what.into()).into());
            }
        },
        speaker: args.format.speaker,
        keep_signature: args.format.keep_signature,
        masking: Masking {
            keeps_secrets: args.masking.keep_secrets,
            contacts: args.masking.mask.clone(),
            names: args.masking.mask_name.clone(),
            own_addresses: args.format.author.clone(),
        },
    };
    let imported = profile::import_all(&args.files, &options)?;
    require_use(args, &imported)?;
    let mut examples = Vec::new();
    for (file, imported) in args.files.iter().zip(imported) {
        say!("{}: {} items read", file.display(), imported.examples.len());
        for side in &imported.taken {
            let other = match side.speaker {
                Speaker::Human => "assistant",
                Speaker::Assistant => "human",
            };
            say!(
                "{}: {side} (--speaker {other} takes the other side's)",
                file.display()
            );
        }
        for (what, n) in &imported.cut {
            say!("{}: {what} cut from {n} items", file.display());
        }
        for (kind, n) in &imported.masked {
            say!("{}: {n} masked: {kind}", file.display());
        }
        for (why, n) in &imported.skipped {
            say!("{}: {n} skipped: {why}", file.display());
        }
        if args.dry_run {
            samples(&imported.examples)?;
        }
        examples.extend(imported.examples);
    }
    Ok(vec![(part, examples)])
}

/// Prints some of the examples of a file: the first, the last and one between.
fn samples(examples: &[Example]) -> Result<()> {
    let mut out = io::stdout().lock();
    let last = examples.len().saturating_sub(1);
    let mut places = vec![0, last / 2, last];
    places.dedup();
    for example in places.iter().filter_map(|&place| examples.get(place)) {
        item::write(&mut out, example, item::Length::Short)?;
    }
    Ok(())
}

/// Refuses options that apply to none of the files.
fn require_use(args: &Import, imported: &[Imported]) -> Result<()> {
    let given = [
        (
            !args.format.author.is_empty(),
            ImportOption::Authors,
            "--author applies to chats between people, e-mails, commits and posts",
        ),
        (
            !args.format.columns.is_empty(),
            ImportOption::Columns,
            "--columns applies to tables (.csv, .tsv)",
        ),
        (
            args.format.speaker.is_some(),
            ImportOption::Speaker,
            "--speaker applies to chats with a model",
        ),
        (
            args.format.lamp_user.is_some(),
            ImportOption::LampUser,
            "--lamp-user applies to LaMP files",
        ),
        (
            args.format.keep_signature,
            ImportOption::KeepSignature,
            "--keep-signature applies to e-mails",
        ),
    ];
    for (is_given, option, purpose) in given {
        if is_given && !imported.iter().any(|it| it.applied.contains(&option)) {
            let which = match args.files.as_slice() {
                [file] => format!("{} has none", file.display()),
                _ => "none of these files has any".into(),
            };
            return Err(UsageError(format!("{purpose}, and {which}; leave it out")).into());
        }
    }
    Ok(())
}

fn demo() -> Result<Vec<(HistoryPart, Vec<Example>)>> {
    let parse = |name: &str, text: &str| profile::json::parse(Path::new(name), text.as_bytes());
    let history = parse(
        "alice/history.jsonl",
        include_str!("../../../models/alice/history.jsonl"),
    )?;
    let held_out = parse(
        "alice/held_out.jsonl",
        include_str!("../../../models/alice/held_out.jsonl"),
    )?;
    Ok(vec![
        (HistoryPart::History, history.examples),
        (HistoryPart::HeldOut, held_out.examples),
    ])
}
