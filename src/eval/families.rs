//! Puts the reports of several bases side by side.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::markdown::{line, percent, row, rule, score};
use super::method::Method;
use crate::estimate::Estimate;
use crate::{Error, Result};

/// The fields that are read from a report in JSON.
#[derive(Debug, Deserialize)]
pub struct FamilyReport {
    base: String,
    split: Value,
    limits: Value,
    splits_sha256: String,
    n_missing: usize,
    inputs: Vec<Input>,
    tasks: BTreeMap<String, FamilyTask>,
    comparisons: Vec<FamilyComparison>,
}

/// The file of a task.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Input {
    name: String,
    sha256: String,
}

#[derive(Debug, Deserialize)]
struct FamilyTask {
    rows: BTreeMap<Method, FamilyRow>,
}

#[derive(Debug, Deserialize)]
struct FamilyRow {
    rouge_l: f64,
}

#[derive(Debug, Deserialize)]
struct FamilyComparison {
    method: Method,
    over: Method,
    mean: Option<Estimate>,
}

/// The gains that are shown beside the scores: of the first method over the second.
const GAINS: [(Method, Method); 2] = [(Method::Cope, Method::Tam), (Method::Cope, Method::Oppu)];

impl FamilyReport {
    /// The inputs on which a report's questions depend: reports can be compared only if theirs are equal.
    fn questions(&self) -> (&Value, &Value, &str, &[Input]) {
        (&self.split, &self.limits, &self.splits_sha256, &self.inputs)
    }
}

/// A table with a row for each base. A column for each method holds its ROUGE-L, averaged over the tasks. The last
/// columns hold CoPe's gains over other methods, averaged over the main tasks, as each report gives them.
///
/// # Errors
///
/// [`Error::Input`] if a report is incomplete, or if the reports differ in splits, limits, tasks or data.
pub fn table(reports: &[FamilyReport]) -> Result<String> {
    let mut text = String::new();
    if let Some(report) = reports.iter().find(|it| it.n_missing > 0) {
        let (base, n) = (&report.base, report.n_missing);
        return Err(Error::input(format!(
            "the report of {base} lacks {n} units of work; finish it first"
        )));
    }
    if reports
        .iter()
        .any(|it| it.questions() != reports[0].questions())
    {
        return Err(Error::input(
            "the reports differ in splits, limits, tasks or data, and cannot be compared",
        ));
    }
    // Complete reports of the same questions have the same tasks.
    let tasks = reports.iter().take(1).flat_map(|it| it.tasks.keys());
    let tasks: Vec<_> = tasks.map(String::as_str).collect();
    line(&mut text, &format!("Means of {}.\n", tasks.join(", ")));
    let mean = |report: &FamilyReport, method: Method| {
        let scores = report
            .tasks
            .values()
            .map(|task| Some(task.rows.get(&method)?.rouge_l));
        let scores: Option<Vec<f64>> = scores.collect();
        scores.map(|scores| scores.iter().sum::<f64>() / scores.len() as f64)
    };
    let is_there = |method: &Method| reports.iter().any(|it| mean(it, *method).is_some());
    let methods: Vec<_> = Method::ALL.into_iter().filter(is_there).collect();
    let titles = methods.iter().map(|method| method.title().to_owned());
    let gains = GAINS.map(|(method, over)| format!("{} over {}", method.title(), over.title()));
    row(
        &mut text,
        ["base".to_owned()].into_iter().chain(titles).chain(gains),
    );
    rule(&mut text, 1 + methods.len() + GAINS.len());
    for report in reports {
        let scores = methods.iter().map(|method| {
            let mean = mean(report, *method);
            mean.map_or("–".to_owned(), score)
        });
        let gains = GAINS.iter().map(|&(method, over)| {
            let mut found = report.comparisons.iter();
            let found = found.find(|it| (it.method, it.over) == (method, over));
            percent(found.and_then(|it| it.mean.as_ref()))
        });
        row(
            &mut text,
            [report.base.clone()].into_iter().chain(scores).chain(gains),
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scores_are_means_over_the_tasks() {
        let report = |base: &str, tasks: serde_json::Value| -> FamilyReport {
            let gain = json!({ "value": 0.25, "low": -0.1, "high": 0.5 });
            let gain = json!({ "method": "cope", "over": "tam", "mean": gain, "tasks": {} });
            let names = tasks.as_object().unwrap().keys();
            let inputs: Vec<_> = names
                .map(|it| json!({ "name": it, "sha256": "" }))
                .collect();
            let report = json!({
                "base": base, "tasks": tasks, "comparisons": [gain],
                "split": "dev", "limits": {}, "splits_sha256": "", "n_missing": 0, "inputs": inputs,
            });
            serde_json::from_value(report).unwrap()
        };
        let rows = |tam: f64, cope: f64| json!({ "rows": { "tam": { "rouge_l": tam }, "cope": { "rouge_l": cope } } });
        let mut reports = [
            report("a", json!({ "x": rows(0.1, 0.2), "y": rows(0.3, 0.4) })),
            report("b", json!({ "x": rows(0.2, 0.1), "y": rows(0.2, 0.2) })),
        ];
        assert_eq!(
            table(&reports).unwrap(),
            "Means of x, y.\n\n| base | TAM | CoPe | CoPe over TAM | CoPe over OPPU |\n|---|---|---|---|---|\n\
             | a | .200 | .300 | +25.0 % [-10.0, +50.0] | – |\n\
             | b | .200 | .150 | +25.0 % [-10.0, +50.0] | – |\n"
        );
        reports[1].split = json!("query");
        assert!(table(&reports).is_err());
        let apart = [
            report("a", json!({ "x": rows(0.1, 0.2) })),
            report("b", json!({ "y": rows(0.1, 0.2) })),
        ];
        assert!(table(&apart).is_err());
    }
}
