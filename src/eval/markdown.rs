//! Tables in Markdown.

use std::fmt::Write;

use super::bootstrap::Estimate;

pub(super) fn heading(text: &mut String, heading: &str) {
    line(text, &format!("\n## {heading}\n"));
}

pub(super) fn row(text: &mut String, cells: impl Iterator<Item = impl AsRef<str>>) {
    let cells: Vec<_> = cells.map(|cell| cell.as_ref().to_owned()).collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

pub(super) fn rule(text: &mut String, n: usize) {
    line(text, &format!("|{}", "---|".repeat(n)));
}

pub(super) fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// As the paper writes it: three digits after the point, none before.
pub(super) fn score(score: f64) -> String {
    format!("{score:.3}").trim_start_matches('0').to_owned()
}

pub(super) fn percent(estimate: Option<&Estimate>) -> String {
    estimate.map_or("–".to_owned(), |Estimate { value, low, high }| {
        format!(
            "{:+.1} % [{:+.1}, {:+.1}]",
            value * 100.0,
            low * 100.0,
            high * 100.0
        )
    })
}
