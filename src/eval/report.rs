//! The report of a study, as JSON and as Markdown.

use serde::Serialize;
use serde_json::Value;

use super::bootstrap::N_SAMPLES;
use super::markdown::{heading, line, percent, row, rule, score};
use super::method::Method;
use super::store::Store;
use super::study::{Split, Study, StudyLimits};
use super::summary::{BY_HISTORY, Comparison, MethodRow, Summary, TaskSummary};
use super::tune::Trial;
use crate::Result;

/// The mean number of items in the histories from which on a user's own adapter should do better than another user's.
const ENOUGH_HISTORY: f64 = 30.0;

/// The figures of a study, and everything that they depend on.
#[derive(Debug, Serialize)]
pub struct Report {
    /// This program's version.
    pub version: &'static str,
    /// The name of the base's file.
    pub base: String,
    /// SHA-256 of the base.
    pub base_sha256: String,
    /// The held-out items that were answered.
    pub split: Split,
    /// The limits on users, queries and items.
    pub limits: StudyLimits,
    /// SHA-256 of `splits.json`.
    pub splits_sha256: String,
    /// The number of units of work that are not done yet.
    pub n_missing: usize,
    /// The inputs of each task.
    pub inputs: Vec<TaskInputs>,
    /// The figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// The trials on `dev` by which settings were chosen.
    pub trials: Vec<Trial>,
}

/// The inputs on which the figures of a task depend.
#[derive(Debug, Serialize)]
pub struct TaskInputs {
    /// The task's name.
    pub name: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// The settings that differ from the default, and the types of weights in any case.
    pub settings: Value,
    /// The seed of the users' training.
    pub seed: u64,
    /// The number of the run on `query`: 1 for the first settings with which the task's `query` items were answered, 2
    /// for the second; `None` on `dev`, and where no run is recorded.
    pub query_run: Option<usize>,
}

impl Report {
    /// Makes the report of a study's figures.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) and [`Error::Input`](crate::Error::Input) when the runs that `store` has
    /// recorded cannot be read.
    pub fn new(
        study: &Study,
        store: &Store,
        n_missing: usize,
        summary: Summary,
        trials: Vec<Trial>,
    ) -> Result<Self> {
        let inputs = study.tasks.iter().map(|task| {
            let query_run = match study.split {
                Split::Dev => None,
                Split::Query => store.run_number(&study.query_run(task))?,
            };
            Ok(TaskInputs {
                name: task.name.clone(),
                sha256: task.sha256.clone(),
                settings: task.settings.changes(),
                seed: task.settings.user.seed,
                query_run,
            })
        });
        let file = study.base.file.rsplit('/').next().unwrap_or_default();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            base: file.to_owned(),
            base_sha256: study.base.sha256.clone(),
            split: study.split,
            limits: study.limits,
            splits_sha256: study.splits_sha256.clone(),
            n_missing,
            inputs: inputs.collect::<Result<_>>()?,
            summary,
            trials,
        })
    }

    /// The report in Markdown: tables of inputs, scores, gains with their intervals, answers and cost, and trials.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.write_inputs(&mut text);
        self.write_rows(&mut text, "ROUGE-1 / ROUGE-L", &|row| {
            format!("{} / {}", score(row.rouge_1), score(row.rouge_l))
        });
        line(
            &mut text,
            "\nROUGE as rouge_score 0.1.2 has it, without stemming, F1. METEOR, which LaMP's papers give beside it, is left \
             out: its synonyms are WordNet's, a database that a program should not have to fetch to count words.",
        );
        self.write_gains(&mut text);
        self.write_by_history(&mut text);
        let what = "Answers: tokens, ended in a loop, ended by their length, not the user model's first choice, seconds \
                    each";
        self.write_rows(&mut text, what, &|row| {
            let percent = |share: f64| format!("{:.0} %", share * 100.0);
            format!(
                "{:.0}, {}, {}, {}, {:.2}",
                row.n_tokens,
                percent(row.looped),
                percent(row.cut),
                percent(row.changed),
                row.seconds
            )
        });
        let what = "Seconds of training a user's adapter (after a stop, since it went on)";
        self.write_rows(&mut text, what, &|row| {
            let seconds = row.training_seconds;
            seconds.map_or("–".into(), |seconds| format!("{seconds:.0}"))
        });
        self.write_trials(&mut text);
        text
    }

    /// Appends the inputs: a paragraph for the study, and a table with a row for each task.
    fn write_inputs(&self, text: &mut String) {
        let Self {
            version,
            base,
            base_sha256,
            split,
            limits,
            splits_sha256,
            n_missing,
            ..
        } = self;
        let split = match split {
            Split::Dev => "dev",
            Split::Query => "query",
        };
        let at_most = |n: Option<usize>| n.map_or("all".to_owned(), |n| format!("the first {n}"));
        let [users, queries, others] = [limits.users, limits.queries, limits.others].map(at_most);
        line(
            text,
            &format!(
                "cope-llama {version}. Base: {base}, SHA-256 {base_sha256}. Split: `{split}` of splits.json, SHA-256 \
                 {splits_sha256}; {users} of the users of each task, {queries} of the queries of each user; the task's \
                 adapter from {others} of the others.\n"
            ),
        );
        let head = [
            "task",
            "SHA-256 of its file",
            "seed",
            "answered on",
            "run on query",
            "weights and what is not the default",
        ];
        row(text, head.iter());
        rule(text, head.len());
        for task in &self.inputs {
            let settings = format!("`{}`", task.settings);
            let (name, sha256) = (task.name.clone(), task.sha256.clone());
            let seed = task.seed.to_string();
            let summary = self.summary.tasks.get(&name);
            let devices = summary.map(|it| it.devices.iter().map(String::as_str));
            let devices = devices.map_or(String::new(), |it| it.collect::<Vec<_>>().join(", "));
            let run = task.query_run.map_or("–".into(), |run| run.to_string());
            let cells = [name, sha256, seed, devices, run, settings];
            row(text, cells.iter());
        }
        if *n_missing > 0 {
            line(
                text,
                &format!("\n**{n_missing} units of work are not done yet.**"),
            );
        }
    }

    /// Appends a table with a row for each method and a column for each task.
    fn write_rows(&self, text: &mut String, title: &str, cell: &dyn Fn(&MethodRow) -> String) {
        let tasks = &self.summary.tasks;
        let is_there = |method: &Method| tasks.values().any(|task| task.rows.contains_key(method));
        let head = std::iter::once("method").chain(tasks.keys().map(String::as_str));
        heading(text, title);
        row(text, head);
        rule(text, tasks.len() + 1);
        let sizes = tasks.values().map(|task| {
            format!(
                "{} users of {:.0} items, {} queries",
                task.n_users, task.n_history, task.n_queries
            )
        });
        row(text, std::iter::once(String::new()).chain(sizes));
        for method in Method::ALL.into_iter().filter(is_there) {
            // A mean over some of the queries cannot be compared with the others, so it says over how many it is.
            let cell = |task: &TaskSummary, it: &MethodRow| match it.n_answers {
                n if n == task.n_queries => cell(it),
                n => format!("{} (of {n})", cell(it)),
            };
            let cells = tasks.values().map(|task| {
                let row = task.rows.get(&method);
                row.map_or("–".into(), |row| cell(task, row))
            });
            row(
                text,
                std::iter::once(method.title().to_owned()).chain(cells),
            );
        }
    }

    /// Appends a table with a row for each trial.
    fn write_trials(&self, text: &mut String) {
        if self.trials.is_empty() {
            return;
        }
        heading(text, "What was tried on dev");
        let head = ["task", "setting", "value", "method", "ROUGE-L", "answers"];
        row(text, head.iter());
        rule(text, head.len());
        for trial in &self.trials {
            let cells = [
                trial.task.clone(),
                trial.setting.clone(),
                format!("`{}`", trial.value),
                trial.method.title().to_owned(),
                format!("{:.4}", trial.rouge_l),
                trial.n_answers.to_string(),
            ];
            row(text, cells.iter());
        }
    }

    /// Appends the gains by the size of the history, with a row for each range.
    fn write_by_history(&self, text: &mut String) {
        let ranges = &self.summary.by_history;
        if ranges.is_empty() {
            return;
        }
        heading(
            text,
            "Gain in ROUGE-L by items in the user's history, mean of those main tasks that have such users",
        );
        let gains =
            BY_HISTORY.map(|(method, over)| format!("{} over {}", method.title(), over.title()));
        let head = ["items", "histories", "of tasks"].map(str::to_owned);
        row(text, head.iter().chain(&gains));
        rule(text, head.len() + gains.len());
        for range in ranges {
            let items = match range.below {
                Some(below) => format!("{}–{}", range.at_least, below - 1),
                None => format!("{} and more", range.at_least),
            };
            let gains = BY_HISTORY.iter().map(|&pair| {
                let mut found = range.comparisons.iter();
                let found = found.find(|it| (it.method, it.over) == pair);
                percent(found.and_then(|it| it.mean.as_ref()))
            });
            let numbers = [range.n_users, range.n_tasks].map(|n| n.to_string());
            let sizes = [items].into_iter().chain(numbers);
            row(text, sizes.chain(gains));
        }
    }

    /// Appends the gains of methods over others, and a warning where the control does as well.
    fn write_gains(&self, text: &mut String) {
        let Summary {
            tasks, comparisons, ..
        } = &self.summary;
        heading(text, "Gain in ROUGE-L, relative, with the 95 % interval");
        let head = ["method", "over", "mean of the main tasks"];
        row(
            text,
            head.into_iter().chain(tasks.keys().map(String::as_str)),
        );
        rule(text, tasks.len() + head.len());
        for Comparison {
            method,
            over,
            tasks: gains,
            mean,
        } in comparisons
        {
            let cells = tasks.keys().map(|name| percent(gains.get(name)));
            let titles = [method.title(), over.title()].map(str::to_owned);
            row(
                text,
                titles
                    .into_iter()
                    .chain([percent(mean.as_ref())])
                    .chain(cells),
            );
        }
        line(
            text,
            &format!(
                "\nIntervals are those of a paired bootstrap over users and their queries, {N_SAMPLES} samples. Where one \
                 includes 0, chance alone may be the reason."
            ),
        );
        let with_control = |it: &&Comparison| it.over == Method::OtherUser;
        let Some(control) = comparisons.iter().find(with_control) else {
            return;
        };
        for (name, gain) in &control.tasks {
            if gain.value <= 0.0 && tasks[name].n_history >= ENOUGH_HISTORY {
                line(
                    text,
                    &format!(
                        "\n**{name}: another user's adapter does as well as the user's own. What CoPe gains there is not \
                         personalisation.**"
                    ),
                );
            }
        }
    }
}
