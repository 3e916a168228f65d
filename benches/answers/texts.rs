//! The prompts, from the files beside this one.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Deserialize;

/// The purpose of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For choosing settings
    Dev,
    /// For the report
    Test,
}

/// A file of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextKind {
    /// Prompts in the manner of the demo user's
    Manner,
    /// Prompts as people type them to an assistant
    Everyday,
    /// Notes with facts, and a request that the answer repeats some of them
    Notes,
    /// Questions with known short answers
    Questions,
}

impl TextKind {
    /// All kinds; those with long answers come first, so that the short ones fill the batch at its end.
    pub const ALL: [Self; 4] = [Self::Manner, Self::Everyday, Self::Notes, Self::Questions];

    /// The most tokens that an answer gets if each answer may have `n_predict`: a note can be repeated, and a question
    /// answered, within fewer.
    pub fn n_predict(self, n_predict: usize) -> usize {
        match self {
            Self::Manner | Self::Everyday => n_predict,
            Self::Notes => n_predict.min(256),
            Self::Questions => n_predict.min(64),
        }
    }

    fn lines(self) -> &'static str {
        match self {
            Self::Manner => include_str!("manner.jsonl"),
            Self::Everyday => include_str!("everyday.jsonl"),
            Self::Notes => include_str!("notes.jsonl"),
            Self::Questions => include_str!("questions.jsonl"),
        }
    }
}

/// A line of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemLine {
    prompt: String,
    split: Split,
    /// A question's: the accepted spellings of its answer.
    #[serde(default)]
    answers: Vec<String>,
    /// A note's: what the answer has to contain.
    #[serde(default)]
    facts: Vec<String>,
}

/// A prompt, and what a right answer to it contains.
#[derive(Debug)]
pub struct Item {
    pub kind: TextKind,
    pub prompt: String,
    /// All facts of a note, or the accepted answers to a question; empty for the other kinds.
    pub wanted: Vec<String>,
}

/// The prompts of `splits` in the files of `kinds`, file by file; at most `limit` of each file, evenly spaced.
pub fn items(kinds: &[TextKind], splits: &[Split], limit: Option<usize>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for kind in TextKind::ALL
        .into_iter()
        .filter(|kind| kinds.contains(kind))
    {
        let of_splits = read(kind, splits)?;
        let n = of_splits.len();
        let limit = limit.unwrap_or(n).min(n);
        let is_taken = |index: usize| (index + 1) * limit / n > index * limit / n;
        let taken = of_splits.into_iter().enumerate();
        items.extend(taken.filter_map(|(index, item)| is_taken(index).then_some(item)));
    }
    Ok(items)
}

fn read(kind: TextKind, splits: &[Split]) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (number, line) in kind.lines().lines().enumerate() {
        let line: ItemLine =
            serde_json::from_str(line).with_context(|| format!("{kind:?}, line {}", number + 1))?;
        if splits.contains(&line.split) {
            items.push(Item {
                kind,
                prompt: line.prompt,
                wanted: [line.answers, line.facts].concat(),
            });
        }
    }
    Ok(items)
}
