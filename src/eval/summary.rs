//! Summarises answers: means by task and method, and gains of methods over others with their intervals.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::bootstrap::{PairOfScores, TaskScores, gain};
use super::method::Method;
use super::store::{Answers, Prediction};
use crate::estimate::Estimate;

/// The pairs of methods that are compared: the gain of the first over the second.
pub const COMPARISONS: [(Method, Method); 11] = [
    (Method::Cope, Method::Tam),
    (Method::Cope, Method::Oppu),
    (Method::Cope, Method::NoContrast),
    (Method::Cope, Method::OtherUser),
    (Method::ContrastOnly, Method::Oppu),
    (Method::DpoOnly, Method::Oppu),
    (Method::Oppu, Method::Tam),
    (Method::Tam, Method::Base),
    (Method::Rag, Method::Base),
    (Method::CopeRag, Method::OppuRag),
    (Method::CopeRagBareBase, Method::CopeRag),
];

/// The pairs that are compared by the size of the history too.
pub(super) const BY_HISTORY: [(Method, Method); 3] = [
    (Method::Cope, Method::Tam),
    (Method::Cope, Method::Oppu),
    (Method::Cope, Method::OtherUser),
];

/// The fewest items of each range of history sizes.
const SIZES: [usize; 4] = [0, 30, 60, 120];

/// The seed of the bootstrap.
const SEED: u64 = 0;

/// All figures of a report.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The figures of each task, by its name.
    pub tasks: BTreeMap<String, TaskSummary>,
    /// The comparisons of methods that have answered the same queries.
    pub comparisons: Vec<Comparison>,
    /// The comparisons by the size of the users' histories, for each range that some history is in.
    pub by_history: Vec<HistoryRange>,
}

/// The comparisons for users whose histories have a number of items within a range.
#[derive(Debug, Serialize)]
pub struct HistoryRange {
    /// The fewest items of the range.
    pub at_least: usize,
    /// One more than the most items of the range; `None` if there is no most.
    pub below: Option<usize>,
    /// The number of users; a user of two tasks counts twice.
    pub n_users: usize,
    /// The number of tasks that have such users.
    pub n_tasks: usize,
    /// CoPe's gains over others, averaged over the main tasks that have such users.
    pub comparisons: Vec<Comparison>,
}

/// The figures of a task.
#[derive(Debug, Default, Serialize)]
pub struct TaskSummary {
    /// The number of users.
    pub n_users: usize,
    /// The number of queries of all users.
    pub n_queries: usize,
    /// The number of items in a user's history, averaged over users.
    pub n_history: f64,
    /// The devices that computed the answers.
    pub devices: BTreeSet<String>,
    /// The means of each method.
    pub rows: BTreeMap<Method, MethodRow>,
}

/// Means over a task's queries.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MethodRow {
    /// The number of answers.
    pub n_answers: usize,
    /// ROUGE-1, F1.
    pub rouge_1: f64,
    /// ROUGE-L, F1.
    pub rouge_l: f64,
    /// The number of tokens of an answer.
    pub n_tokens: f64,
    /// The share of answers that were ended because they repeated themselves.
    pub looped: f64,
    /// The share of answers that were ended because they reached the length limit.
    pub cut: f64,
    /// The share of tokens that are not the user model's first choice.
    pub changed: f64,
    /// The seconds that an answer took.
    pub seconds: f64,
    /// The seconds that training a user's adapter took, if the method has one. Of a training that was stopped and
    /// resumed, only the time after the resumption counts.
    pub training_seconds: Option<f64>,
}

/// The gain of a method's ROUGE-L over another's, relative to the latter.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The method whose gain it is.
    pub method: Method,
    /// The method that it is compared with.
    pub over: Method,
    /// The gain on each task, by its name.
    pub tasks: BTreeMap<String, Estimate>,
    /// The gain averaged over the main tasks, if all have been compared.
    pub mean: Option<Estimate>,
}

impl Summary {
    /// Summarises `answers`. Gains are averaged over the tasks `main`.
    #[must_use]
    pub fn new(answers: &[Answers], main: &[String]) -> Self {
        let tasks = by_task(answers.iter());
        let compare = |&(method, over)| compare(&tasks, method, over, main);
        Self {
            comparisons: COMPARISONS.iter().filter_map(compare).collect(),
            by_history: by_history(answers, main),
            tasks: tasks
                .iter()
                .map(|(&name, answers)| (name.to_owned(), TaskSummary::new(answers)))
                .collect(),
        }
    }
}

type ByTask<'a> = BTreeMap<&'a str, Vec<&'a Answers>>;

fn by_task<'a>(answers: impl Iterator<Item = &'a Answers>) -> ByTask<'a> {
    let mut tasks = ByTask::new();
    for it in answers {
        tasks.entry(&it.task).or_default().push(it);
    }
    tasks
}

/// The comparison of `method` with `over`; `None` if no query was answered by both.
fn compare(tasks: &ByTask, method: Method, over: Method, main: &[String]) -> Option<Comparison> {
    let scores = tasks
        .iter()
        .map(|(&name, answers)| (name, pairs(answers, method, over)));
    let scores: BTreeMap<_, _> = scores.filter(|(_, it)| !it.users.is_empty()).collect();
    let main_scores = main.iter().map(|name| scores.get(name.as_str()).cloned());
    let main_scores: Option<Vec<_>> = main_scores.collect();
    (!scores.is_empty()).then(|| Comparison {
        method,
        over,
        mean: main_scores.and_then(|scores| gain(&scores, SEED)),
        tasks: scores
            .into_iter()
            .filter_map(|(name, scores)| Some((name.to_owned(), gain(&[scores], SEED)?)))
            .collect(),
    })
}

/// The comparisons by the size of the history, over the users of the main tasks.
fn by_history(answers: &[Answers], main: &[String]) -> Vec<HistoryRange> {
    let ends = SIZES.iter().skip(1).copied().map(Some).chain([None]);
    let range = |(&at_least, below): (&usize, Option<usize>)| {
        let is_in = |it: &&Answers| {
            let is_of_size =
                it.n_history >= at_least && below.is_none_or(|below| it.n_history < below);
            is_of_size && main.contains(&it.task)
        };
        let tasks = by_task(answers.iter().filter(is_in));
        let names: Vec<String> = tasks.keys().map(|&name| name.to_owned()).collect();
        let users = tasks.values().flatten();
        let users: BTreeSet<_> = users.map(|it| (&it.task, &it.user)).collect();
        let compare = |&(method, over)| compare(&tasks, method, over, &names);
        HistoryRange {
            at_least,
            below,
            n_users: users.len(),
            n_tasks: names.len(),
            comparisons: BY_HISTORY.iter().filter_map(compare).collect(),
        }
    };
    let ranges = SIZES.iter().zip(ends).map(range);
    ranges.filter(|it| it.n_users > 0).collect()
}

impl TaskSummary {
    fn new(answers: &[&Answers]) -> Self {
        let mut by_method: BTreeMap<Method, Vec<&Answers>> = BTreeMap::new();
        let mut users: BTreeMap<&str, &Answers> = BTreeMap::new();
        for it in answers {
            by_method.entry(it.method).or_default().push(it);
            users.insert(&it.user, it);
        }
        Self {
            n_users: users.len(),
            n_queries: users.values().map(|it| it.predictions.len()).sum(),
            n_history: users.values().map(|it| it.n_history as f64).sum::<f64>()
                / users.len().max(1) as f64,
            devices: answers.iter().map(|it| it.device.clone()).collect(),
            rows: by_method
                .iter()
                .map(|(&method, answers)| (method, MethodRow::new(answers)))
                .collect(),
        }
    }
}

impl MethodRow {
    fn new(answers: &[&Answers]) -> Self {
        let predictions = answers.iter().flat_map(|it| &it.predictions);
        let predictions: Vec<_> = predictions.collect();
        let n = predictions.len().max(1) as f64;
        let mean =
            |of: &dyn Fn(&Prediction) -> f64| predictions.iter().map(|it| of(it)).sum::<f64>() / n;
        let trained = answers.iter().filter_map(|it| it.training_seconds);
        let trained: Vec<f64> = trained.collect();
        let share = |of: &dyn Fn(&Prediction) -> bool| mean(&|it| f64::from(u8::from(of(it))));
        let n_tokens = mean(&|it| it.n_tokens as f64);
        Self {
            n_answers: predictions.len(),
            rouge_1: mean(&|it| it.rouge_1),
            rouge_l: mean(&|it| it.rouge_l),
            n_tokens,
            looped: share(&|it| it.looped),
            cut: share(&|it| it.cut),
            changed: mean(&|it| it.n_changed as f64) / n_tokens.max(1.0),
            seconds: mean(&|it| it.seconds),
            training_seconds: (!trained.is_empty())
                .then(|| trained.iter().sum::<f64>() / trained.len() as f64),
        }
    }
}

/// The ROUGE-L of `over` and of `method`, user by user, for the queries of a task that both have answered.
fn pairs(answers: &[&Answers], method: Method, over: Method) -> TaskScores {
    let predictions_of = |wanted: Method| {
        let answers = answers.iter().filter(move |it| it.method == wanted);
        let by_user = answers.map(|it| (it.user.as_str(), &it.predictions));
        by_user.collect::<BTreeMap<_, _>>()
    };
    let others = predictions_of(over);
    let mut task = TaskScores::default();
    for (user, predictions) in predictions_of(method) {
        let Some(others) = others.get(user) else {
            continue;
        };
        let score = |it: &Prediction| -> Option<PairOfScores> {
            let other = others.iter().find(|other| other.id == it.id)?;
            Some([other.rouge_l, it.rouge_l])
        };
        let scores: Vec<_> = predictions.iter().filter_map(score).collect();
        if !scores.is_empty() {
            task.users.push(user.to_owned());
            task.pairs.push(scores);
        }
    }
    task
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(task: &str, user: &str, method: Method, scores: &[(&str, f64)]) -> Answers {
        let prediction = |&(id, rouge_l): &(&str, f64)| Prediction {
            id: id.to_owned(),
            text: None,
            rouge_1: 2.0 * rouge_l,
            rouge_l,
            n_tokens: 10,
            n_changed: 1,
            looped: id == "a",
            cut: false,
            seconds: 0.5,
        };
        Answers {
            key: String::new(),
            task: task.to_owned(),
            user: user.to_owned(),
            method,
            device: String::new(),
            n_history: 30,
            training_seconds: (method == Method::Cope).then_some(60.0),
            predictions: scores.iter().map(prediction).collect(),
        }
    }

    #[test]
    fn rows_are_means_over_queries_and_gains_over_the_queries_of_both() {
        let all = [
            answers("one", "0", Method::Tam, &[("a", 0.1), ("b", 0.3)]),
            answers("one", "0", Method::Cope, &[("b", 0.6), ("a", 0.1)]),
            answers("one", "1", Method::Cope, &[("c", 0.9)]),
            answers("two", "0", Method::Tam, &[("a", 0.4)]),
            answers("two", "0", Method::Cope, &[("a", 0.2)]),
        ];
        let summary = Summary::new(&all, &["one".into(), "two".into()]);
        let one = &summary.tasks["one"];
        assert_eq!((one.n_users, one.n_queries), (2, 3));
        let row = one.rows[&Method::Cope];
        assert!((row.rouge_l - 1.6 / 3.0).abs() < 1e-12);
        assert_eq!((row.n_answers, one.rows[&Method::Tam].n_answers), (3, 2));
        assert_eq!(row.training_seconds, Some(60.0));
        assert_eq!(one.rows[&Method::Tam].training_seconds, None);
        assert!((row.looped - 1.0 / 3.0).abs() < 1e-12 && (row.changed - 0.1).abs() < 1e-12);
        let [comparison] = &summary.comparisons[..] else {
            panic!("{:?}", summary.comparisons);
        };
        assert_eq!(
            (comparison.method, comparison.over),
            (Method::Cope, Method::Tam)
        );
        assert!((comparison.tasks["one"].value - 0.75).abs() < 1e-12);
        assert!((comparison.mean.unwrap().value - (0.75 - 0.5) / 2.0).abs() < 1e-12);
        let [range] = &summary.by_history[..] else {
            panic!("{:?}", summary.by_history);
        };
        assert_eq!(
            (range.at_least, range.below, range.n_users, range.n_tasks),
            (30, Some(60), 3, 2)
        );
        assert_eq!(range.comparisons[0].mean, comparison.mean);
        let other = Summary::new(&all, &["one".into(), "three".into()]);
        assert_eq!(other.comparisons[0].mean, None);
    }
}
