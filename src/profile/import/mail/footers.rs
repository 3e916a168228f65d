//! The parts below a person's own text: the signature, the line of a phone, the footer of a list or a scanner of viruses,
//! and disclaimers.

use std::ops::Range;

use super::line::{Cut, Line, LinePlace};
use super::markers::MARKERS;
use super::template::has_address;

/// The most lines of a signature whose `--` has lost its blank, and of the footer of a list.
const MAX_LINES: usize = 10;

/// The length from which on a line of underscores begins the footer of a list.
const RULE_LEN: usize = 40;

/// Cuts what stands below each run of own lines. `author` is the author's name.
pub(super) fn cut(lines: &mut [Line], author: &str) {
    let mut start = 0;
    while start < lines.len() {
        let n = lines[start..]
            .iter()
            .take_while(|line| line.is_own())
            .count();
        cut_below(&mut lines[start..start + n], author);
        start += n.max(1);
    }
}

fn cut_below(lines: &mut [Line], author: &str) {
    let mut end = cut_footers(lines, lines.len());
    let signature = (0..end).find(|&i| is_delimiter(&lines[..end], i, author));
    if let Some(start) = signature {
        mark(lines, start..end, Cut::Signature);
        end = start;
    }
    cut_footers(lines, end);
}

fn mark(lines: &mut [Line], range: Range<usize>, cut: Cut) {
    for line in &mut lines[range] {
        line.place = LinePlace::Cut(cut);
    }
}

/// Cuts the footers at the end of the lines before `end`, and returns the new end.
fn cut_footers(lines: &mut [Line], mut end: usize) -> usize {
    loop {
        while end > 0 && lines[end - 1].is_blank() {
            end -= 1;
        }
        let Some((start, cut)) = footer(&lines[..end]) else {
            return end;
        };
        mark(lines, start..end, cut);
        end = start;
    }
}

/// The footer that some lines end with: its first line, and its kind.
fn footer(lines: &[Line]) -> Option<(usize, Cut)> {
    let last = lines.last()?;
    if MARKERS.is_phone_line(&last.text) {
        return Some((lines.len() - 1, Cut::Phone));
    }
    if let Some(start) = list_footer(lines) {
        return Some((start, Cut::Footer));
    }
    let blank = lines.iter().rposition(Line::is_blank);
    let start = blank.map_or(0, |blank| blank + 1);
    let paragraph = &lines[start..];
    if let Some(i) = paragraph
        .iter()
        .position(|line| MARKERS.is_footer(&line.text))
    {
        return Some((start + i, Cut::Footer));
    }
    let text: Vec<_> = paragraph.iter().map(|line| line.text.trim()).collect();
    let is_whole_mail = start == 0;
    (!is_whole_mail && MARKERS.is_legal(&text.join(" "))).then_some((start, Cut::Disclaimer))
}

/// The first line of a footer that a list's server adds: a rule, and below it only the list's name and links.
fn list_footer(lines: &[Line]) -> Option<usize> {
    let is_rule = |line: &Line| {
        let text = line.text.trim();
        text.len() >= RULE_LEN && text.chars().all(|character| character == '_')
    };
    let first = lines.len().saturating_sub(MAX_LINES + 1);
    let rule = first + lines[first..].iter().rposition(is_rule)?;
    let below = &lines[rule + 1..];
    let is_link = |line: &Line| line.text.contains("://") || has_address(&line.text);
    let is_named = |line: &Line| line.text.to_lowercase().contains("list");
    let is_footer = below.iter().any(is_link)
        && below.iter().all(|line| {
            line.is_blank()
                || is_link(line)
                || is_named(line)
                || line.text.trim_end().ends_with(':')
        });
    is_footer.then_some(rule)
}

/// Whether a line begins a signature: `-- `, or the same without its blank, if what stands below looks like a signature.
fn is_delimiter(lines: &[Line], i: usize, author: &str) -> bool {
    let text = &lines[i].text;
    if text.trim_end() != "--" && text.trim() != "—" {
        return false;
    }
    if text.starts_with("--") && text.len() > 2 {
        return true;
    }
    let below = &lines[i + 1..];
    let filled = below.iter().filter(|line| !line.is_blank());
    let n_below = filled.take(MAX_LINES + 1).count();
    if n_below == 0 || n_below > MAX_LINES || below[0].is_blank() {
        return false;
    }
    let above = i.checked_sub(1).map(|above| &lines[above]);
    let introduces = above.is_some_and(|above| above.text.trim_end().ends_with(':'));
    let is_apart = above.is_none_or(Line::is_blank) && text.starts_with("--");
    let names = || {
        author
            .split_whitespace()
            .any(|name| name.chars().count() > 1 && below[0].text.contains(name))
    };
    !introduces && (is_apart || below.iter().any(|line| is_contact(&line.text)) || names())
}

/// Whether a line holds an address, a link, a telephone number, or parts between bars.
pub(super) fn is_contact(line: &str) -> bool {
    let n_digits = line.chars().filter(char::is_ascii_digit).count();
    let is_number = line
        .chars()
        .all(|character| character.is_ascii_digit() || !character.is_alphabetic())
        && n_digits >= 6;
    has_address(line)
        || line.contains("://")
        || line.contains("www.")
        || line.contains(" | ")
        || is_number
        || line.contains('+') && n_digits >= 6
        || n_digits >= 6
            && line
                .split([':', '.'])
                .next()
                .is_some_and(|label| label.chars().count() <= 8 && label.len() < line.len())
}
