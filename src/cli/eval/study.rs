//! The options of all `eval` commands that say what is evaluated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cope_llama::eval::{Method, Source, Split, Store, Study, StudyLimits};
use cope_llama::home::{Home, read_jsonl};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::options::{BaseArg, count};

/// The data sets of the five main tasks, which are in both protocols.
const MAIN: [&str; 5] = [
    "abstract_generation_acl",
    "news_headline_huffpost",
    "product_review_wine",
    "scholarly_title_acl",
    "topic_writing_stackexchange",
];

/// The second data sets of three of these tasks.
const SECOND: [&str; 3] = [
    "news_headline_blogs",
    "product_review_amazon_music",
    "topic_writing_blogs",
];

#[derive(Args)]
#[command(next_help_heading = "Study")]
pub struct StudyArgs {
    /// The folder of LaMP files, with a splits.json that names the users who are evaluated (targets) and those on whose
    /// items the task adapter is trained (others)
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The amount of data that is evaluated
    #[arg(long, value_enum, default_value = "quick")]
    protocol: Protocol,
    /// The tasks, by the names of their files without the extension [default: the protocol's]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    task: Vec<String>,
    /// Evaluate the first N users of each task [default: the protocol's]
    #[arg(long, value_name = "N", value_parser = count)]
    users: Option<usize>,
    /// Answer the first N queries of each user [default: the protocol's]
    #[arg(long, value_name = "N", value_parser = count)]
    queries: Option<usize>,
    /// Train on the newest N items of each user, or fewer if the settings say so [default: the protocol's]
    #[arg(long, value_name = "N", value_parser = count)]
    items: Option<usize>,
    /// Train the task adapter on the items of the first N other users [default: the protocol's]
    #[arg(long, value_name = "N", value_parser = count)]
    others: Option<usize>,
    /// The held-out items that are answered: choose settings on dev, and keep query for the report
    #[arg(
        long,
        value_enum,
        value_name = "dev|query",
        hide_possible_values = true,
        default_value = "dev"
    )]
    split: Split,
    /// The methods that answer: base, rag, pag, tam, oppu, cope, contrast-only, dpo-only, no-contrast, other-user,
    /// oppu-rag, cope-rag, cope-rag-bare-base [default: all but the last]
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    method: Vec<Method>,
    /// A JSON file with the settings that differ from the default, by task
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The folder of results [default: eval in the data directory]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Scores from other machines or earlier days, as `report --scores` writes them; queries that they have count as
    /// answered
    #[arg(long, value_name = "FILE")]
    known: Vec<PathBuf>,
    #[command(flatten)]
    base: BaseArg,
}

/// The amount of data that is evaluated.
#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// A smoke test on the five main data sets: three users each, four queries and thirty items per user, six other
    /// users
    Quick,
    /// All users and queries of all data sets
    Full,
}

impl StudyArgs {
    /// Reads the study.
    pub fn study(&self, home: &Home) -> Result<Study> {
        let (names, limits): (Vec<&str>, _) = match self.protocol {
            Protocol::Quick => {
                let limits = StudyLimits {
                    users: Some(3),
                    queries: Some(4),
                    items: Some(30),
                    others: Some(6),
                };
                (MAIN.to_vec(), limits)
            }
            Protocol::Full => (
                MAIN.into_iter().chain(SECOND).collect(),
                StudyLimits::default(),
            ),
        };
        let names: Vec<String> = match self.task.as_slice() {
            [] => names.into_iter().map(str::to_owned).collect(),
            names => names.to_vec(),
        };
        let limits = StudyLimits {
            users: self.users.or(limits.users),
            queries: self.queries.or(limits.queries),
            items: self.items.or(limits.items),
            others: self.others.or(limits.others),
        };
        let settings: BTreeMap<String, Value> = match &self.settings {
            None => BTreeMap::new(),
            Some(path) => read_json(path)?,
        };
        let base_path = self.base.path(home, None)?;
        let base = home.base_ref(&base_path)?;
        let source = Source {
            folder: &self.data,
            names: &names,
            split: self.split,
            limits,
        };
        Ok(Study::read(base, base_path, source, &settings)?)
    }

    /// The methods in the order of [`Method::ALL`].
    pub fn methods(&self) -> Vec<Method> {
        match self.method.as_slice() {
            [] => Method::published(),
            methods => {
                let named = Method::ALL.into_iter();
                named.filter(|method| methods.contains(method)).collect()
            }
        }
    }

    /// The results, with the scores from elsewhere.
    pub fn store(&self, home: &Home) -> Result<Store> {
        let root = self.results.clone().unwrap_or(home.evaluations());
        let mut store = Store::at(root);
        for path in &self.known {
            store.add_known(read_lines(path)?)?;
        }
        Ok(store)
    }
}

/// The tasks over which gains are averaged: those of the study that are main tasks, or all if none is.
pub fn main_tasks(study: &Study) -> Vec<String> {
    let names: Vec<_> = study.tasks.iter().map(|task| task.name.clone()).collect();
    let main: Vec<_> = names
        .iter()
        .filter(|name| MAIN.contains(&name.as_str()))
        .cloned()
        .collect();
    if main.is_empty() { names } else { main }
}

/// Reads a JSON file, which has to exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Reads a file with a JSON value on each line, which has to exist.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(read_jsonl(path)?)
}
