//! The files of an evaluation. Answers are named by a hash of everything that they depend on: existing answers need not
//! be computed again, and answers that depend on something else are another file. A user's folder of adapters is named
//! by what SFT depends on; pairs and DPO are made anew in it when their settings change. Several processes may work in
//! one folder if their settings are the same.
//!
//! ```text
//! answers/<key>.json         a method's answers to a user's queries, with their scores
//! descriptions/<key>.json    the base's description of a user
//! query-runs.jsonl           the settings with which `query` was answered, in this order
//! tasks/ users/              adapters, as in the data folder
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::method::Method;
use crate::home::{Home, append_jsonl, create_folder, read_json_if_there, read_jsonl, write_json};
use crate::{Error, Result};

/// A method's answer to one query, with its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The query's id.
    pub id: String,
    /// The part of the answer that is scored; `None` where texts must not be shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// ROUGE-1, F1.
    pub rouge_1: f64,
    /// ROUGE-L, F1.
    pub rouge_l: f64,
    /// The number of tokens of the answer, without the one that ends it.
    pub n_tokens: usize,
    /// The number of these tokens that are not the user model's first choice.
    pub n_changed: usize,
    /// Whether the answer was ended because it repeated itself.
    pub looped: bool,
    /// Whether the answer was ended because it reached the length limit.
    pub cut: bool,
    /// The answer's share of the seconds that all answers for the user took together, prompts included.
    pub seconds: f64,
}

/// A method's answers to the queries of one user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The hash of everything that the answers depend on.
    pub key: String,
    /// The task's name.
    pub task: String,
    /// The user's id.
    pub user: String,
    /// The method that answered.
    pub method: Method,
    /// The device that computed the answers.
    pub device: String,
    /// The number of items in the user's history.
    pub n_history: usize,
    /// The seconds that training the user's adapter took, if one answered. The task adapter's training is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_seconds: Option<f64>,
    /// The answers, in the order of the queries.
    pub predictions: Vec<Prediction>,
}

impl Answers {
    /// The mean ROUGE-L; 0 without answers.
    #[must_use]
    pub fn rouge_l(&self) -> f64 {
        let sum: f64 = self.predictions.iter().map(|it| it.rouge_l).sum();
        sum / self.predictions.len().max(1) as f64
    }
}

/// A record that the `query` items of a task were answered by a base with some settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct QueryRun {
    pub task: String,
    pub base_sha256: String,
    /// The hash of the settings.
    pub settings: String,
}

/// A folder of results.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Answers from elsewhere, such as another machine, by key.
    known: BTreeMap<String, Answers>,
}

impl Store {
    /// The results in the folder `root`, which need not exist yet.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self {
            root,
            known: BTreeMap::new(),
        }
    }

    /// Adds answers from elsewhere, which then count as done. They are not written into the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when two of them have the same key and different scores.
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
                    "the scores of {} for {} ({}) are given twice, and differ",
                    it.method.title(),
                    it.user,
                    it.task
                )));
            }
            self.known.insert(it.key.clone(), it);
        }
        Ok(())
    }

    /// The folder of adapters, as a home.
    #[must_use]
    pub fn home(&self) -> Home {
        Home::at(&self.root)
    }

    /// The answers with this key, if they are there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Input`] when the file cannot be read.
    pub fn answers(&self, key: &str) -> Result<Option<Answers>> {
        // Answers in the folder come first, since those from elsewhere have no texts.
        let here = read_json_if_there(&self.answers_path(key))?;
        Ok(here.or_else(|| self.known.get(key).cloned()))
    }

    /// Keeps answers under their key.
    ///
    /// # Errors
    ///
    /// [`Error::Convert`], for example when the disk is full.
    pub fn keep_answers(&self, answers: &Answers) -> Result<()> {
        keep(&self.answers_path(&answers.key), answers)
    }

    /// The base's description of a user, if it is there.
    ///
    /// # Errors
    ///
    /// The errors of [`Store::answers`].
    pub fn description(&self, key: &str) -> Result<Option<String>> {
        read_json_if_there(&self.description_path(key))
    }

    /// Keeps the base's description of a user.
    ///
    /// # Errors
    ///
    /// [`Error::Convert`], for example when the disk is full.
    pub fn keep_description(&self, key: &str, description: &str) -> Result<()> {
        keep(&self.description_path(key), &description)
    }

    /// Records that `query` is answered with these settings, unless that is recorded already.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Input`] when the file cannot be read or written.
    pub(super) fn note_run(&self, run: &QueryRun) -> Result<()> {
        if self.run_number(run)?.is_some() {
            return Ok(());
        }
        create_folder(&self.root)?;
        append_jsonl(&self.home().query_runs(), run)
    }

    /// The number of a run: 1 for the first settings with which this base answered this task's `query`, 2 for the
    /// second. `None` if this folder has no record of the run.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Input`] when the file cannot be read.
    pub(super) fn run_number(&self, run: &QueryRun) -> Result<Option<usize>> {
        let mut runs = read_jsonl::<QueryRun>(&self.home().query_runs())?;
        runs.retain(|it| (&it.task, &it.base_sha256) == (&run.task, &run.base_sha256));
        let Some(first) = runs.iter().position(|it| it == run) else {
            return Ok(None);
        };
        // Settings count once, since two processes that start together may both record theirs.
        let before: BTreeSet<_> = runs[..first].iter().map(|it| &it.settings).collect();
        Ok(Some(before.len() + 1))
    }

    fn answers_path(&self, key: &str) -> PathBuf {
        self.root.join("answers").join(format!("{key}.json"))
    }

    fn description_path(&self, key: &str) -> PathBuf {
        self.root.join("descriptions").join(format!("{key}.json"))
    }
}

/// Writes a result into its folder, which is created if it is missing.
fn keep(path: &Path, value: &impl Serialize) -> Result<()> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    write_json(path, value)
}
