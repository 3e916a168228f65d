//! `user remove-item`: removes items from a user's history and from the held-out texts.

use anyhow::{Result, bail};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use cope_convert::say;
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::profile::Example;

use super::say_starts;

#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true), after_help = EXAMPLES, override_usage = USAGE)]
pub struct Remove {
    /// Name of the user
    user: String,
    /// Ids of the items, as `user review` shows them; a part from their beginning will do if no other item has it
    #[arg(group = "which", value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    items: Vec<String>,
    /// Remove the items that hold this text, in their prompt or their response, in upper or lower case
    #[arg(long, group = "which", value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    matching: Option<String>,
}

const USAGE: &str = "\
cope-llama user remove-item <USER> <ID>...
       cope-llama user remove-item <USER> --matching <TEXT>";

const EXAMPLES: &str = "\
Mined pairs, a stopped training and the caches of chats are removed too, since
they may hold the items. An adapter keeps what it has learnt until the next
training.

Examples:
  cope-llama user remove-item bob 5c1b2f0a91 77e0a4d2b3
  cope-llama user remove-item bob --matching \"Anna Berg\"";

pub fn run(home: &Home, args: &Remove) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let lock = user.lock()?;
    let profile = user.profile()?;
    let ids: Vec<_> = profile
        .history
        .iter()
        .chain(&profile.held_out)
        .map(Example::id)
        .collect();
    for asked in &args.items {
        let n = ids
            .iter()
            .filter(|id| id.starts_with(asked.as_str()))
            .count();
        if n != 1 {
            let begin = if n == 0 {
                "no item has"
            } else {
                "several items have"
            };
            let name = user.name();
            bail!(
                "{begin} an id that begins with {asked:?}; `cope-llama user review {name}` shows the ids"
            );
        }
    }
    let is_asked = |example: &Example| {
        let id = example.id();
        let by_id = args
            .items
            .iter()
            .any(|asked| id.starts_with(asked.as_str()));
        let text = args.matching.as_deref();
        by_id || text.is_some_and(|text| example.contains(text))
    };
    let n = user.change_examples(&lock, |example| {
        (!is_asked(example)).then(|| example.clone())
    })?;
    let left = user.profile()?;
    say!(
        "{}: {n} removed, {} left in the history and {} held out",
        user.name(),
        left.history.len(),
        left.held_out.len()
    );
    if n > 0 {
        say_consequences(home, &user)?;
    }
    Ok(())
}

/// Says what still knows the texts that were removed or changed.
pub fn say_consequences(home: &Home, user: &UserFolder) -> Result<()> {
    let name = user.name();
    if user.adapter().exists() {
        say!(
            "{name}'s adapter has learnt them: `cope-llama train {name}` makes one that has not, and keeps the one of before \
             as previous.gguf, for `train --undo`, until the training after that"
        );
    }
    say_starts(home, name)
}
