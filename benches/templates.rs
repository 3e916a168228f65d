//! Chat templates rendered here and by `transformers`, byte for byte.
//!
//! ```text
//! make bench-templates                                   # all templates of llama.cpp's collection
//! cargo bench --bench templates -- --templates FOLDER    # others
//! ```
//!
//! It fails if a prompt differs that a chat can have: one without tools.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cope_llama::message::Message;
use cope_llama::prompt::{ChatTemplate, PromptSettings, Thinking, Value};
use cope_llama::thought::ThoughtTags;
use serde::Deserialize;

#[derive(Parser)]
struct Options {
    /// The folder with the templates
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/templates"))]
    templates: PathBuf,
    /// The Python that has transformers
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peer/bin/python"))]
    python: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A chat as transformers renders it.
#[derive(Deserialize)]
struct Rendered {
    name: String,
    template: String,
    messages: Vec<Message>,
    variables: BTreeMap<String, Value>,
    /// `None` where the template refuses the chat.
    text: Option<String>,
}

/// How a prompt here compares with the one of transformers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Same,
    Closed,
    RefusedByBoth,
    RefusedThere,
    RefusedHere,
    Different,
}

impl Outcome {
    const ALL: [(Self, &str); 6] = [
        (Self::Same, "the same"),
        (
            Self::Closed,
            "the same, and the thought that it opens is closed",
        ),
        (Self::RefusedByBoth, "refused by both"),
        (Self::RefusedThere, "refused by transformers alone"),
        (Self::RefusedHere, "refused here alone"),
        (Self::Different, "different"),
    ];
}

fn main() -> Result<()> {
    let options = Options::parse();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/templates.py");
    let python = Command::new(&options.python)
        .arg(script)
        .arg(&options.templates)
        .stderr(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", options.python.display()))?;
    ensure!(python.status.success(), "{script} failed");
    let rendered: Vec<Rendered> = serde_json::from_slice(&python.stdout)?;
    ensure!(
        !rendered.is_empty(),
        "no templates in {}",
        options.templates.display()
    );

    // The number of prompts without and with tools, and the templates.
    let mut outcomes: BTreeMap<Outcome, ([usize; 2], BTreeSet<&str>)> = BTreeMap::new();
    for rendered in &rendered {
        let has_tools = rendered.variables.contains_key("tools");
        let (counts, names) = outcomes.entry(rendered.compare()).or_default();
        counts[usize::from(has_tools)] += 1;
        names.insert(&rendered.name);
    }
    println!("| prompts | without tools | with a tool | templates |");
    println!("|---|---|---|---|");
    for (outcome, title) in Outcome::ALL {
        let (counts, names) = outcomes.get(&outcome).cloned().unwrap_or_default();
        let listed = Vec::from_iter(names).join(", ");
        let names = if outcome == Outcome::Same {
            ""
        } else {
            &listed
        };
        println!("| {title} | {} | {} | {names} |", counts[0], counts[1]);
    }
    for outcome in [Outcome::Different, Outcome::RefusedHere] {
        let without_tools = outcomes.get(&outcome).map_or(0, |(counts, _)| counts[0]);
        ensure!(without_tools == 0, "{without_tools} prompts differ");
    }
    Ok(())
}

impl Rendered {
    fn compare(&self) -> Outcome {
        match (self.here(), &self.text) {
            (Err(_), None) => Outcome::RefusedByBoth,
            (Ok(_), None) => Outcome::RefusedThere,
            (Err(_), Some(_)) => Outcome::RefusedHere,
            (Ok(here), Some(there)) if here == *there => Outcome::Same,
            (Ok(here), Some(there)) => {
                let tags = ThoughtTags::left_open(there, |tag| self.template.contains(tag));
                let closed = tags.ok().flatten();
                let closed = closed.map(|tags| format!("{there}{}", tags.empty_thought(there)));
                if self.thinking() == Thinking::Off && closed == Some(here) {
                    Outcome::Closed
                } else {
                    Outcome::Different
                }
            }
        }
    }

    fn thinking(&self) -> Thinking {
        match self.variables.get("enable_thinking") {
            Some(value) if value.is_true() => Thinking::On,
            _ => Thinking::Off,
        }
    }

    fn here(&self) -> cope_llama::Result<String> {
        let template = ChatTemplate::new(Some(&self.template), "<bos>", "<eos>")?;
        let settings = PromptSettings {
            thinking: self.thinking(),
            variables: self.variables.clone(),
        };
        template.with_settings(settings).render(&self.messages)
    }
}
