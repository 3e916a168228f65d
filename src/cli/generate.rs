//! `generate`: answers one prompt on stdout.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args as ClapArgs};
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::Error;
use cope_llama::decode::{ArmKind, DecoderOptions, Finish};
use cope_llama::home::Home;
use cope_llama::message::Message;
use serde_json::{Value, json};

use super::decode_options::DecodeArgs;
use super::explain;
use super::options::{ModelArgs, VoiceArgs};
use super::session::{Reply, ReplyEvent, Session, show_thought};

/// The largest prompt that is read, in bytes; no context has room for more.
const MAX_PROMPT_BYTES: u64 = 16 << 20;

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true, group = ArgGroup::new("input").required(true))]
pub struct Args {
    /// Prompt to answer
    #[arg(short, long, value_name = "TEXT", group = "input")]
    prompt: Option<String>,
    /// File with the prompt to answer; - for stdin
    #[arg(short, long, value_name = "FILE", group = "input")]
    file: Option<PathBuf>,
    /// System prompt: instructions before the prompt
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// Arm that answers: base, the base model alone; user, the user's model alone; cope, the user's model contrasted with
    /// the base [default: cope with a user or an adapter, else base]
    #[arg(
        long,
        value_enum,
        value_name = "base|user|cope",
        hide_possible_values = true
    )]
    arm: Option<ArmKind>,
    /// Print one JSON object with text, finish (the reason why the answer ended), tokens (their number) and seed; with
    /// --think also thought
    #[arg(long)]
    json: bool,
    /// Mark the tokens for which the contrast changed the user model's choice; with --json, list for each token its score,
    /// its probabilities under user model and base, and the number of plausible tokens
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    voice: VoiceArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decode: DecodeArgs,
}

const EXAMPLES: &str = "\
Examples:
  cope-llama generate --user alice -p \"Reply to: Are you free on Friday?\"
  cope-llama generate --user alice --arm user --temp 0.8 -s 7 -f prompt.txt
  cope-llama generate --user alice -p \"A date for dinner?\" --explain
  cope-llama generate -m base.gguf --lora adapter.gguf --contrast 0.5 -p Hello --json";

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let mut messages: Vec<Message> = args.system_prompt.iter().map(Message::system).collect();
    messages.push(Message::user(prompt(args)?));
    let stop = Arc::default();
    let source = args.voice.source(home)?;
    let mut session = Session::open(home, &args.model, &args.voice, &source, &stop, None)?;
    // The base is loaded, so that a signal ends the answer after the text so far.
    signals::stop_sets(&stop);
    let arm = args
        .arm
        .map_or(session.default_arm(), |arm| arm.with(session.contrast));

    let options = DecoderOptions {
        // The marks need no explained choices, which make decoding slower.
        explain: args.explain && args.json,
        ..args.decode.options(&args.model, session.model())?
    };
    let sampling = options.answer.sampling;
    let mut out = io::stdout().lock();
    let answer = session.answer(&messages, arm, options, |event| {
        match event {
            ReplyEvent::Text(text) if !args.json && !args.explain => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            ReplyEvent::Thought(text) if !args.json => show_thought(text),
            ReplyEvent::Text(_) | ReplyEvent::Thought(_) => {}
            ReplyEvent::Note(note) => say!("[{note}]"),
        }
        Ok(())
    })?;
    if args.json {
        let object = json_object(args, &session, &answer, sampling.seed);
        writeln!(out, "{object}")?;
    } else {
        if args.explain {
            let text = explain::text(session.model(), &answer.steered, &out);
            out.write_all(text.as_bytes())?;
        }
        writeln!(out)?;
        if let Some(note) = answer.note() {
            say!("[{note}]");
        }
        if args.explain {
            say!("[{}]", explain::legend(&answer.steered));
        }
    }
    if args.decode.seed.is_none() && sampling.temperature > 0.0 && !args.json {
        say!("[seed {}]", sampling.seed);
    }
    if args.decode.timings {
        say!("[{}]", answer.statistics);
    }
    session.save_prompt_cache()?;
    if answer.finish == Finish::Interrupted {
        return Err(Error::Interrupted.into());
    }
    Ok(())
}

/// The answer as `--json` prints it.
fn json_object(args: &Args, session: &Session, answer: &Reply, seed: u32) -> Value {
    let mut object = json!({
        "text": answer.text,
        "finish": finish(answer.finish),
        "tokens": answer.n_tokens,
        "seed": seed,
    });
    if !answer.thought.is_empty() {
        object["thought"] = json!(answer.thought);
    }
    if args.explain {
        object["choices"] = explain::json(session.model(), &answer.choices);
    }
    object
}

fn prompt(args: &Args) -> Result<String> {
    match (&args.prompt, &args.file) {
        (Some(prompt), _) => Ok(prompt.clone()),
        (None, Some(path)) if path == Path::new("-") => {
            read(io::stdin().lock()).context("cannot read stdin")
        }
        (None, Some(path)) => std::fs::File::open(path)
            .map_err(Into::into)
            .and_then(read)
            .with_context(|| format!("cannot read {}", path.display())),
        (None, None) => bail!("no prompt: give -p TEXT or -f FILE"),
    }
}

/// Reads a prompt and cuts the line ends at its end.
fn read(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(MAX_PROMPT_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_PROMPT_BYTES {
        bail!("the prompt is larger than {} MiB", MAX_PROMPT_BYTES >> 20);
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The name of a finish reason in the JSON output: OpenAI's where it has one.
fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::EndOfTurn | Finish::Stop | Finish::Loop => "stop",
        Finish::Length | Finish::ContextFull => "length",
        Finish::Interrupted => "interrupted",
    }
}
