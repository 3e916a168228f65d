//! The files of an evaluation, each named by a hash of all that it depends on: what is there need not be computed again,
//! and what depends on something else is another file. Several processes may be at work in one folder, if their settings
//! are the same.
//!
//! ```text
//! answers/<key>.json         what a method answers to a user's queries, with the scores
//! descriptions/<key>.json    what the base says of a user
//! tasks/ users/              adapters, as in the data folder
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::method::Method;
use crate::home::{Home, create_folder, read_json_if_there, write_json};
use crate::{Error, Result};

/// What a method answered to one query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The query's name.
    pub id: String,
    /// What counts of the answer; left out where texts are not to be shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// ROUGE-1, F1.
    pub rouge_1: f64,
    /// ROUGE-L, F1.
    pub rouge_l: f64,
    /// Tokens of the answer, without its end.
    pub n_tokens: usize,
    /// Of these, those that are not the user model's first choice.
    pub n_changed: usize,
    /// Whether it was ended because it went round in a loop.
    pub looped: bool,
    /// Whether it was ended because it had as many tokens as it may.
    pub cut: bool,
    /// Its share of the time that the user's answers took together, with their prompts.
    pub seconds: f64,
}

/// A method's answers to the queries of one user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Hash of what they depend on.
    pub key: String,
    /// The task's name.
    pub task: String,
    /// The user's id.
    pub user: String,
    /// Who answered.
    pub method: Method,
    /// What they were computed on.
    pub device: String,
    /// Items in the user's history.
    pub n_history: usize,
    /// What training has taken of the user's adapter that answered, if one did; the task's is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_seconds: Option<f64>,
    /// In the order of the queries.
    pub predictions: Vec<Prediction>,
}

impl Answers {
    /// Mean ROUGE-L; 0 without answers.
    #[must_use]
    pub fn rouge_l(&self) -> f64 {
        let sum: f64 = self.predictions.iter().map(|it| it.rouge_l).sum();
        sum / self.predictions.len().max(1) as f64
    }
}

/// A folder of results.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Answers from elsewhere, by key.
    known: BTreeMap<String, Answers>,
}

impl Store {
    /// The results at `root`, which need not be there yet.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self {
            root,
            known: BTreeMap::new(),
        }
    }

    /// Takes answers from elsewhere for done; they are not written into the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when two of them have the same key and other scores.
    pub fn add_known(&mut self, answers: Vec<Answers>) -> Result<()> {
        let scores = |answers: &Answers| {
            let predictions = answers.predictions.iter();
            let scores = predictions.map(|it| (it.id.clone(), it.rouge_1, it.rouge_l));
            scores.collect::<Vec<_>>()
        };
        for it in answers {
            let known = self.known.get(&it.key);
            if known.is_some_and(|known| scores(known) != scores(&it)) {
                return Err(Error::input(format!(
                    "the scores of {} for {} ({}) are there twice, and differ",
                    it.method.title(),
                    it.user,
                    it.task
                )));
            }
            self.known.insert(it.key.clone(), it);
        }
        Ok(())
    }

    /// Where adapters are.
    #[must_use]
    pub fn home(&self) -> Home {
        Home::at(&self.root)
    }

    /// The answers of this key, if they are there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Input`] when the file cannot be read.
    pub fn answers(&self, key: &str) -> Result<Option<Answers>> {
        if let Some(known) = self.known.get(key) {
            return Ok(Some(known.clone()));
        }
        read_json_if_there(&self.answers_path(key))
    }

    /// Keeps answers under their key.
    ///
    /// # Errors
    ///
    /// [`Error::Convert`], for example when the disk is full.
    pub fn keep_answers(&self, answers: &Answers) -> Result<()> {
        keep(&self.answers_path(&answers.key), answers)
    }

    /// What the base says of a user, if it is there.
    ///
    /// # Errors
    ///
    /// As [`Store::answers`].
    pub fn description(&self, key: &str) -> Result<Option<String>> {
        read_json_if_there(&self.description_path(key))
    }

    /// Keeps what the base says of a user.
    ///
    /// # Errors
    ///
    /// [`Error::Convert`], for example when the disk is full.
    pub fn keep_description(&self, key: &str, description: &str) -> Result<()> {
        keep(&self.description_path(key), &description)
    }

    fn answers_path(&self, key: &str) -> PathBuf {
        self.root.join("answers").join(format!("{key}.json"))
    }

    fn description_path(&self, key: &str) -> PathBuf {
        self.root.join("descriptions").join(format!("{key}.json"))
    }
}

/// Writes a result into its folder, which is made where it is missing.
fn keep(path: &Path, value: &impl Serialize) -> Result<()> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    write_json(path, value)
}
