//! Writes tables and figures in Markdown.

use std::fmt::Write;

use crate::estimate::Estimate;

/// Appends a heading of the second level.
pub(super) fn heading(text: &mut String, heading: &str) {
    line(text, &format!("\n## {heading}\n"));
}

/// Appends a row of a table.
pub(super) fn row(text: &mut String, cells: impl Iterator<Item = impl AsRef<str>>) {
    let cells: Vec<_> = cells.map(|cell| cell.as_ref().to_owned()).collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

/// Appends the rule below the head of a table with `n` columns.
pub(super) fn rule(text: &mut String, n: usize) {
    line(text, &format!("|{}", "---|".repeat(n)));
}

/// Appends a line.
pub(super) fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// Formats a score as the paper does: three digits after the point, none before it.
pub(super) fn score(score: f64) -> String {
    format!("{score:.3}").trim_start_matches('0').to_owned()
}

/// Formats an estimate and its interval in percent; a dash without an estimate.
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
