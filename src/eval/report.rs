//! A summary as Markdown.

use std::fmt::Write;

use super::bootstrap::Estimate;
use super::method::Method;
use super::study::{Split, Study};
use super::summary::{Comparison, Summary};
use crate::Result;

/// The tables of a summary: scores, gains with their intervals, texts, cost.
#[must_use]
pub fn markdown(summary: &Summary) -> String {
    let mut text = String::new();
    let methods: Vec<_> = Method::ALL
        .into_iter()
        .filter(|method| {
            summary
                .tasks
                .values()
                .any(|task| task.rows.contains_key(method))
        })
        .collect();
    let names: Vec<_> = summary.tasks.keys().map(String::as_str).collect();
    heading(&mut text, "ROUGE-1 / ROUGE-L");
    row(
        &mut text,
        std::iter::once("method").chain(names.iter().copied()),
    );
    rule(&mut text, names.len() + 1);
    let sizes = summary.tasks.values();
    let sizes = sizes.map(|task| format!("{} users, {} queries", task.n_users, task.n_queries));
    row(&mut text, std::iter::once(String::new()).chain(sizes));
    for &method in &methods {
        let cells = summary.tasks.values().map(|task| {
            task.rows.get(&method).map_or("–".to_owned(), |row| {
                format!("{} / {}", score(row.rouge_1), score(row.rouge_l))
            })
        });
        row(
            &mut text,
            std::iter::once(method.title().to_owned()).chain(cells),
        );
    }

    heading(
        &mut text,
        "Gain in ROUGE-L, relative, with the 95 % interval",
    );
    row(
        &mut text,
        ["method", "over", "mean of the tasks"]
            .into_iter()
            .chain(names.iter().copied()),
    );
    rule(&mut text, names.len() + 3);
    for Comparison {
        method,
        over,
        tasks,
        mean,
    } in &summary.comparisons
    {
        let cells = names
            .iter()
            .map(|&name| tasks.get(name).map_or("–".to_owned(), percent));
        let head = [
            method.title().to_owned(),
            over.title().to_owned(),
            percent(mean),
        ];
        row(&mut text, head.into_iter().chain(cells));
    }

    heading(
        &mut text,
        "Answers: tokens, ended in a loop, ended by their length, not the user model's first choice, seconds each",
    );
    row(
        &mut text,
        std::iter::once("method").chain(names.iter().copied()),
    );
    rule(&mut text, names.len() + 1);
    for &method in &methods {
        let cells = summary.tasks.values().map(|task| {
            task.rows.get(&method).map_or("–".to_owned(), |row| {
                format!(
                    "{:.0}, {:.0} %, {:.0} %, {:.0} %, {:.2}",
                    row.n_tokens,
                    row.looped * 100.0,
                    row.cut * 100.0,
                    row.changed * 100.0,
                    row.seconds
                )
            })
        });
        row(
            &mut text,
            std::iter::once(method.title().to_owned()).chain(cells),
        );
    }
    text
}

/// What the figures are of: base, data, settings; and how many units of work are missing.
///
/// # Errors
///
/// As [`Settings::changes`](super::Settings::changes).
pub fn preamble(study: &Study, split: Split, missing: usize) -> Result<String> {
    let mut text = String::new();
    let base = &study.base;
    let file = base.file.rsplit('/').next().unwrap_or_default();
    let split = match split {
        Split::Dev => "dev",
        Split::Query => "query",
    };
    let sha256 = &base.sha256;
    line(
        &mut text,
        &format!("Base: {file}, SHA-256 {sha256}. Split: `{split}`.\n"),
    );
    row(
        &mut text,
        [
            "task",
            "SHA-256 of its file",
            "settings that are not the defaults",
        ]
        .iter(),
    );
    rule(&mut text, 3);
    for task in &study.tasks {
        let settings = task.settings.changes()?;
        let cells = [
            task.name.clone(),
            task.sha256.clone(),
            format!("`{settings}`"),
        ];
        row(&mut text, cells.iter());
    }
    if missing > 0 {
        line(
            &mut text,
            &format!("\n**{missing} units of work are not done yet.**"),
        );
    }
    Ok(text)
}

fn heading(text: &mut String, heading: &str) {
    line(text, &format!("\n## {heading}\n"));
}

fn row(text: &mut String, cells: impl Iterator<Item = impl AsRef<str>>) {
    let cells: Vec<_> = cells.map(|cell| cell.as_ref().to_owned()).collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

fn rule(text: &mut String, n: usize) {
    line(text, &format!("|{}", "---|".repeat(n)));
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// As the paper writes it: three digits after the point, none before.
fn score(score: f64) -> String {
    format!("{score:.3}").trim_start_matches('0').to_owned()
}

fn percent(estimate: &Estimate) -> String {
    let Estimate { value, low, high } = estimate;
    format!(
        "{:+.1} % [{:+.1}, {:+.1}]",
        value * 100.0,
        low * 100.0,
        high * 100.0
    )
}
