//! The dated result files of `benches/results/<date>-<cpu>/`: no table without what it takes to make it again.
//!
//! Before its first table a file says, each on a line of its own, for all of its sections or for one alone:
//!
//! ```text
//! - Command: `make bench-decoding`
//! - Machine: Intel Xeon, 2 cores, AVX512-BF16
//! - Compiler: rustc 1.95.0, GCC 12.2
//! - Commit: 4c2e1f0
//! ```

use super::pages::{Line, heading, lines};
use super::tree::Tree;

const FOLDER: &str = "benches/results/";

/// The facts that a result file must state.
const KEYS: [&str; 4] = ["Command", "Machine", "Compiler", "Commit"];

/// Finds the facts that result files of the tree do not state.
pub fn unsaid(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (page, text) in tree.texts(".md") {
        let Some((folder, _)) = page.strip_prefix(FOLDER).and_then(|p| p.split_once('/')) else {
            continue;
        };
        if !begins_with_date(folder) {
            found.push(format!("{page}: its folder is not named <date>-<cpu>"));
        }
        found.extend(
            unsaid_on(text)
                .into_iter()
                .map(|what| format!("{page}{what}")),
        );
    }
    found
}

fn begins_with_date(folder: &str) -> bool {
    let shape = folder.bytes().map(|byte| match byte {
        b'0'..=b'9' => b'0',
        byte => byte,
    });
    shape.take(11).eq(*b"0000-00-00-") && folder.len() > 11
}

/// Finds the facts that neither a section with a table nor the head of its page states.
fn unsaid_on(text: &str) -> Vec<String> {
    let lines = lines(text);
    let sections: Vec<&[Line<'_>]> = sections(&lines);
    let head = sections.first().copied().unwrap_or_default();
    let with_table = sections.iter().filter(|section| has_table(section));
    let mut held: Vec<&[Line<'_>]> = with_table.copied().collect();
    if held.is_empty() {
        held.push(head);
    }
    let mut found = Vec::new();
    for section in held {
        let line = section.first().map_or(1, |line| line.number);
        for key in KEYS {
            if !says(section, key) && !says(head, key) {
                found.push(format!(":{line}: no line `- {key}: …` that says it"));
            }
        }
    }
    found
}

/// The lines before the first heading of the second level, and those from each such heading on.
fn sections<'a, 'b>(lines: &'a [Line<'b>]) -> Vec<&'a [Line<'b>]> {
    let is_heading = |line: &Line<'_>| {
        line.fence.is_none() && line.text.starts_with("## ") && heading(line.text).is_some()
    };
    let mut starts = vec![0];
    starts.extend((1..lines.len()).filter(|&at| is_heading(&lines[at])));
    starts.push(lines.len());
    starts
        .windows(2)
        .map(|two| &lines[two[0]..two[1]])
        .collect()
}

fn has_table(section: &[Line<'_>]) -> bool {
    section
        .iter()
        .any(|line| line.fence.is_none() && line.text.trim_start().starts_with('|'))
}

/// Whether the section has a line `- key: value` with a value of its kind.
fn says(section: &[Line<'_>], key: &str) -> bool {
    let start = format!("- {key}: ");
    let values = section
        .iter()
        .filter_map(|line| line.text.strip_prefix(&start));
    let mut values = values.map(str::trim);
    values.any(|value| match key {
        // A span of code, a link to where it stands, or a fenced block below.
        "Command" => value.contains(['`', ']']) || section.iter().any(|line| line.fence.is_some()),
        "Commit" => value
            .split(|char: char| !char.is_ascii_hexdigit())
            .any(|word| word.len() >= 7),
        _ => value.len() > 2,
    }) || key == "Command"
        && section.iter().any(|line| line.text.trim() == "- Command:")
        && section.iter().any(|line| line.fence.is_some())
}
