//! What answers come to: means by task and method, and differences of methods with their intervals.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::bootstrap::{Estimate, PairOfScores, TaskScores, gain};
use super::method::Method;
use super::store::{Answers, Prediction};

/// The pairs of methods whose difference says something: the first over the second.
pub const COMPARISONS: [(Method, Method); 10] = [
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
];

/// Those that are made by the size of the history.
pub(super) const BY_HISTORY: [(Method, Method); 3] = [
    (Method::Cope, Method::Tam),
    (Method::Cope, Method::Oppu),
    (Method::Cope, Method::OtherUser),
];

/// Where a range of sizes begins.
const SIZES: [usize; 4] = [0, 30, 60, 120];

/// Seed of the bootstrap.
const SEED: u64 = 0;

/// All figures of a report.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// By the task's name.
    pub tasks: BTreeMap<String, TaskSummary>,
    /// Of those methods that have answered the same queries.
    pub comparisons: Vec<Comparison>,
    /// By the size of the users' histories, those sizes that there are.
    pub by_history: Vec<HistoryRange>,
}

/// The users whose histories are of a size.
#[derive(Debug, Serialize)]
pub struct HistoryRange {
    /// The fewest items.
    pub at_least: usize,
    /// More items than the most, if there is a most.
    pub below: Option<usize>,
    /// Users; one of two tasks counts twice.
    pub n_users: usize,
    /// Tasks that have such users.
    pub n_tasks: usize,
    /// CoPe's over others, averaged over those of the main tasks that have such users.
    pub comparisons: Vec<Comparison>,
}

/// The figures of a task.
#[derive(Debug, Default, Serialize)]
pub struct TaskSummary {
    /// Users.
    pub n_users: usize,
    /// Queries of all users.
    pub n_queries: usize,
    /// Items in a user's history, the mean over users.
    pub n_history: f64,
    /// What the answers were computed on.
    pub devices: BTreeSet<String>,
    /// By method.
    pub rows: BTreeMap<Method, MethodRow>,
}

/// Means over a task's queries.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MethodRow {
    /// Answers.
    pub n_answers: usize,
    /// ROUGE-1, F1.
    pub rouge_1: f64,
    /// ROUGE-L, F1.
    pub rouge_l: f64,
    /// Tokens of an answer.
    pub n_tokens: f64,
    /// Share of the answers that were ended because they went round in a loop.
    pub looped: f64,
    /// Share that was ended because of its length.
    pub cut: f64,
    /// Share of the tokens that are not the user model's first choice.
    pub changed: f64,
    /// Seconds an answer.
    pub seconds: f64,
    /// Seconds of training a user's adapter, if the method has one; of a training that was stopped, since it went on.
    pub training_seconds: Option<f64>,
}

/// How much higher a method's ROUGE-L is than another's, relative to it.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The one.
    pub method: Method,
    /// The other.
    pub over: Method,
    /// By task.
    pub tasks: BTreeMap<String, Estimate>,
    /// The mean over the main tasks, if all have been compared.
    pub mean: Option<Estimate>,
}

impl Summary {
    /// The figures of `answers`; gains are averaged over the tasks `main`.
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

/// How `method` compares with `over`, if both have answered the same queries.
fn compare(tasks: &ByTask, method: Method, over: Method, main: &[String]) -> Option<Comparison> {
    let scores = tasks
        .iter()
        .map(|(&name, answers)| (name, pairs(answers, method, over)));
    let scores: BTreeMap<_, _> = scores.filter(|(_, it)| !it.users.is_empty()).collect();
    let of_main = main.iter().map(|name| scores.get(name.as_str()).cloned());
    let of_main: Option<Vec<_>> = of_main.collect();
    (!scores.is_empty()).then(|| Comparison {
        method,
        over,
        mean: of_main.and_then(|of_main| gain(&of_main, SEED)),
        tasks: scores
            .into_iter()
            .filter_map(|(name, scores)| Some((name.to_owned(), gain(&[scores], SEED)?)))
            .collect(),
    })
}

/// Of the main tasks, as the mean of a comparison.
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

/// ROUGE-L of `over` and of `method`, of those queries of a task that both have answered, user by user.
fn pairs(answers: &[&Answers], method: Method, over: Method) -> TaskScores {
    let of = |wanted: Method| {
        let of_method = answers.iter().filter(move |it| it.method == wanted);
        let by_user = of_method.map(|it| (it.user.as_str(), &it.predictions));
        by_user.collect::<BTreeMap<_, _>>()
    };
    let others = of(over);
    let mut task = TaskScores::default();
    for (user, predictions) in of(method) {
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
