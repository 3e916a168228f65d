//! What is found in the files that people have.

use std::collections::BTreeMap;
use std::path::Path;

use super::Example;
use crate::{Error, Result};

/// Longer texts of mailboxes, repositories and the like are left: they are rarely what a person would have a model write,
/// and fit few contexts.
const MAX_CHARACTERS: usize = 24_000;

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// What was taken, oldest first where that is known.
    pub examples: Vec<Example>,
    /// How many items were left, by the reason.
    pub left: BTreeMap<String, usize>,
}

impl Imported {
    /// Takes an item if it can be trained on, else leaves it.
    pub(super) fn take(&mut self, prompt: impl Into<String>, response: impl Into<String>) {
        self.take_example(Example::new(prompt, response));
    }

    /// As [`take`](Self::take).
    pub(super) fn take_example(&mut self, example: Example) {
        let texts = example.prompt.iter().map(|message| &message.content);
        let n = texts
            .chain([&example.response])
            .map(|text| text.chars().count());
        if n.sum::<usize>() > MAX_CHARACTERS {
            self.leave(format!("longer than {MAX_CHARACTERS} characters"));
            return;
        }
        match example.checked() {
            Ok(example) => self.examples.push(example),
            Err(why) => self.leave(why),
        }
    }

    /// Leaves an item.
    pub(super) fn leave(&mut self, why: impl Into<String>) {
        *self.left.entry(why.into()).or_default() += 1;
    }

    pub(super) fn whole(examples: Vec<Example>) -> Self {
        Self {
            examples,
            left: BTreeMap::new(),
        }
    }
}

/// Whose the texts of `path` are to be, which has to be said.
pub(super) fn need_authors(path: &Path, authors: &[String], what: &str) -> Result<()> {
    if authors.iter().any(|author| !author.trim().is_empty()) {
        return Ok(());
    }
    Err(Error::Input(format!(
        "{}: whose {what} are the user's own? name the author with --author",
        path.display()
    )))
}
