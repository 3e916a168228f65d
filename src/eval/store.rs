//! The files of an evaluation. Answers are named by a hash of all that they depend on: what is there need not be computed
//! again, and what depends on something else is another file. A user's adapters are named by what SFT depends on, and
//! pairs and DPO are made anew there where their settings are others. Several processes may be at work in one folder, if
//! their settings are the same.
//!
//! ```text
//! answers/<key>.json         what a method answers to a user's queries, with the scores
//! descriptions/<key>.json    what the base says of a user
//! query-runs.jsonl           with which settings `query` was answered, in this order
//! tasks/ users/              adapters, as in the data folder
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::method::Method;
use crate::home::{Home, append_jsonl, create_folder, read_json_if_there, read_jsonl, write_json};
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

/// With which settings the queries of a task were answered by a base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct QueryRun {
    pub task: String,
    pub base_sha256: String,
    /// Hash of the settings.
    pub settings: String,
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
        // What is known from elsewhere has no texts.
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

    /// Notes that `query` is answered with these settings, unless it was before.
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

    /// Which of the settings with which this task's `query` was answered by this base these are, the first being 1; `None`
    /// where that was never done in this folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Input`] when the file cannot be read.
    pub(super) fn run_number(&self, run: &QueryRun) -> Result<Option<usize>> {
        let mut of_task = read_jsonl::<QueryRun>(&self.home().query_runs())?;
        of_task.retain(|it| (&it.task, &it.base_sha256) == (&run.task, &run.base_sha256));
        let Some(first) = of_task.iter().position(|it| it == run) else {
            return Ok(None);
        };
        // Two processes that start together both note theirs.
        let before: BTreeSet<_> = of_task[..first].iter().map(|it| &it.settings).collect();
        Ok(Some(before.len() + 1))
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
