//! The person's own signature without a delimiter: the lines that many of their texts end with.

use std::collections::HashMap;

use super::footers::is_contact;

/// The number of texts that end with the same lines, from which on these are a signature.
const MIN_TEXTS: usize = 3;

/// The most lines of a signature.
const MAX_LINES: usize = 10;

/// Cuts the repeated signature from the texts that end with it, and returns how many these are. `name` is the person's name.
///
/// A greeting with a name below it is the person's own words, however often it is repeated. A signature names them in full, or
/// holds a number, an address or a link.
pub(super) fn cut_repeated<'a>(texts: impl Iterator<Item = (&'a mut String, &'a str)>) -> usize {
    let texts: Vec<_> = texts.collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (text, name) in &texts {
        for start in starts(text, name) {
            *counts.entry(folded(&text[start..])).or_default() += 1;
        }
    }
    let mut n_cut = 0;
    for (text, name) in texts {
        let is_repeated = |start: &usize| counts[&folded(&text[*start..])] >= MIN_TEXTS;
        if let Some(start) = starts(text, name).into_iter().find(is_repeated) {
            text.truncate(text[..start].trim_end().len());
            n_cut += 1;
        }
    }
    n_cut
}

/// The places at which a signature may begin, the first one first.
fn starts(text: &str, name: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let first = lines.len().saturating_sub(MAX_LINES).max(1);
    let mut start: usize = lines.iter().take(first).map(|line| line.len()).sum();
    let mut starts = Vec::new();
    for i in first..lines.len() {
        if is_signature(&lines[i..], lines[i - 1], name) {
            starts.push(start);
        }
        start += lines[i].len();
    }
    starts
}

fn is_signature(lines: &[&str], above: &str, name: &str) -> bool {
    let n_lines = lines.iter().filter(|line| !line.trim().is_empty()).count();
    let is_named = name.contains(' ') && lines[0].contains(name);
    let is_apart = above.trim().is_empty() && !lines[0].trim_end().ends_with([',', '!', '?', '.']);
    let has_contact = lines.iter().any(|line| is_contact(line));
    let begins = is_named || is_apart || is_contact(lines[0]);
    !lines[0].trim().is_empty() && begins && (has_contact || is_named && n_lines >= 2)
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_signature_is_cut_and_a_greeting_is_not() {
        for (below, kept, n) in [
            ("Best,\nBob Hill\nLadders Ltd\nTel. 123 456 789", "Best,", 3),
            ("Bob Hill | Ladders Ltd | +00 000 000", "", 3),
            ("Best,\nBob", "Best,\nBob", 0),
            ("Yours\nBob Hill", "Yours\nBob Hill", 0),
        ] {
            let mut texts: Vec<_> = (0..3).map(|i| format!("Text {i}.\n\n{below}")).collect();
            let n_cut = cut_repeated(texts.iter_mut().map(|text| (text, "Bob Hill")));
            assert_eq!(
                (texts[0].as_str(), n_cut),
                (format!("Text 0.\n\n{kept}").trim_end(), n),
                "{below}"
            );
            let mut once = format!("Text.\n\n{below}");
            assert_eq!(cut_repeated([(&mut once, "Bob Hill")].into_iter()), 0);
        }
    }
}
