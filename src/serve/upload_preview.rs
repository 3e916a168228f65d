//! The preview of an upload: the result that an import of it would have.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::upload_options::UploadOptions;
use crate::error::{TextCounts, Unspecified};
use crate::home::{UploadedFile, UserFolder};
use crate::profile::{self, Example, ImportOption, Imported};
use crate::{Error, Result};

/// The most examples that are shown.
const MAX_SAMPLES: usize = 5;

/// The most choices of an option.
const MAX_CHOICES: usize = 200;

/// A file that has arrived in full.
#[derive(Debug)]
pub struct ReceivedFile {
    /// The name that it had where it came from, for people to read.
    pub name: String,
    pub n_bytes: u64,
    pub file: UploadedFile,
}

impl ReceivedFile {
    /// Whether the file is still there: it goes with its user.
    pub fn is_there(&self) -> bool {
        self.file.path().is_file()
    }

    /// A message about the file by the name that the person knows.
    pub fn message(&self, error: &Error) -> String {
        let path = self.file.path().to_string_lossy().into_owned();
        error.to_string().replace(&path, &self.name)
    }
}

/// Reads the file as an import with these options would, and stores nothing. The state is `read`, `needs` where only the
/// person can tell a fact, or `failed`.
pub fn preview(received: &ReceivedFile, user: &UserFolder, options: &UploadOptions) -> Value {
    let mut preview = match read(received, user, options) {
        Ok(preview) => preview,
        Err(Error::Unspecified(unspecified)) => needs(received, unspecified),
        Err(error) => json!({ "state": "failed", "message": received.message(&error) }),
    };
    preview["file"] = json!(received.name);
    preview["bytes"] = json!(received.n_bytes);
    preview
}

fn read(received: &ReceivedFile, user: &UserFolder, options: &UploadOptions) -> Result<Value> {
    let imported = profile::import(received.file.path(), &options.import_options())?;
    let samples = samples(&imported.examples);
    let n = imported.examples.len();
    let Imported {
        examples,
        skipped,
        cut,
        taken,
        masked,
        applied,
        ..
    } = imported;
    let added = user.profile()?.add(options.part(), examples);
    let taken: Vec<_> = taken.iter().map(ToString::to_string).collect();
    Ok(json!({
        "state": "read",
        "n": n,
        "taken": taken,
        "cut": counts(&cut),
        "masked": counts(&masked),
        "left": counts(&skipped),
        "new": added.new,
        "known": added.known,
        "samples": samples,
        "applies": applied,
    }))
}

/// Some of the examples, from the first to the last.
fn samples(examples: &[Example]) -> Vec<Value> {
    let n = examples.len().min(MAX_SAMPLES);
    let last = examples.len().saturating_sub(1);
    let places = (0..n).map(|sample| sample * last / n.saturating_sub(1).max(1));
    let shown = places.map(|place| &examples[place]);
    shown
        .map(|it| json!({ "prompt": it.prompt, "response": it.response }))
        .collect()
}

/// Pairs of what was counted and its number.
pub(super) fn counts<T: Serialize>(counts: &BTreeMap<T, usize>) -> Vec<(&T, usize)> {
    counts.iter().map(|(what, n)| (what, *n)).collect()
}

/// The option that a person has to choose, and what there is to choose from.
fn needs(received: &ReceivedFile, unspecified: Unspecified) -> Value {
    let named = |names: &[String]| -> Vec<Value> {
        let names = names.iter().take(MAX_CHOICES);
        names
            .map(|name| json!({ "name": name, "n": null }))
            .collect()
    };
    let (option, choices) = match &unspecified {
        Unspecified::Author {
            people: TextCounts(people),
            ..
        } => {
            let people = people.iter().take(MAX_CHOICES);
            let choices = people.map(|(name, n)| json!({ "name": name, "n": n }));
            (Some(ImportOption::Authors), choices.collect())
        }
        Unspecified::LampUser { ids, .. } => (Some(ImportOption::LampUser), named(ids)),
        Unspecified::Columns { known, .. } => (Some(ImportOption::Columns), named(known)),
        _ => (None, Vec::new()),
    };
    let message = received.message(&unspecified.into());
    match option {
        Some(option) => json!({
            "state": "needs",
            "needs": { "option": option, "choices": choices, "message": message },
            "message": message,
        }),
        None => json!({ "state": "failed", "message": message }),
    }
}
