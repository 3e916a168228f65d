//! Chats of programs whose form is not known. They hold other people's words, and are no text of the user's.

use std::collections::HashMap;

use super::stamp::holds_clock;

/// The most lines that are looked at, and the fewest that make a chat.
const MAX_LINES: usize = 200;
const MIN_LINES: usize = 4;

/// The most characters of a time, and of a name.
const MAX_TIME: usize = 40;
const MAX_NAME: usize = 40;

/// Whether most lines of a text begin with a time and a name, and at least two names come again and again.
pub(in crate::profile::import) fn is_unknown_chat(text: &str) -> bool {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let (mut n_lines, mut n_named) = (0, 0);
    let mut names: HashMap<&str, usize> = HashMap::new();
    for line in lines.take(MAX_LINES) {
        n_lines += 1;
        if let Some(name) = speaker(line) {
            n_named += 1;
            *names.entry(name).or_default() += 1;
        }
    }
    let n_repeated = names.values().filter(|n| **n > 1).count();
    n_named >= MIN_LINES && n_named * 2 > n_lines && n_repeated > 1
}

/// The name in a line that begins with a time and a name: `18:02 Nora: …`, `[18:02] <nora> …`, `[Nora] [18:02] …`.
fn speaker(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some((name, rest)) = line.strip_prefix('[').and_then(|it| it.split_once("] ["))
        && let Some((time, _)) = rest.split_once(']')
    {
        return Some(name).filter(|it| is_name(it) && holds_clock(time));
    }
    if let Some((time, rest)) = line.split_once('<')
        && let Some((name, _)) = rest.split_once('>')
        && is_time(time)
    {
        return Some(name).filter(|it| is_name(it));
    }
    let ends = line.match_indices([':', '\t']);
    let mut candidates = ends.map(|(end, _)| &line[..end]);
    candidates.find_map(|before| {
        let last = before.rfind(|it: char| it.is_ascii_digit() || "])".contains(it))?;
        let (time, name) = before.split_at(last + 1);
        let name = name.trim_matches(|it: char| !it.is_alphanumeric());
        (is_time(time) && is_name(name)).then_some(name)
    })
}

fn is_time(text: &str) -> bool {
    text.chars().count() <= MAX_TIME && holds_clock(text)
}

fn is_name(text: &str) -> bool {
    text.chars().any(char::is_alphabetic) && text.chars().count() <= MAX_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_of_unknown_programs_are_told_from_lists_of_times() {
        for (first, second) in [
            ("18:02 Nora: ladder?", "18:03 Tom: aye"),
            ("[18:02] <nora> ladder?", "[18:03] <tom> aye"),
            ("[Nora] [오후 6:02] ladder?", "[Tom] [오후 6:03] aye"),
            (
                "2026년 3월 12일 오후 6:02, Nora : ladder?",
                "2026년 3월 12일 오후 6:03, Tom : aye",
            ),
            ("18:02\tNora\tladder?", "18:03\tTom\taye"),
        ] {
            let text = format!("A title\n{first}\n{second}\n{first}\n{second}\nand more\n");
            assert!(is_unknown_chat(&text), "{text}");
        }
        for text in [
            "18:02 breakfast: tea\n18:03 train: late\n18:04 work: long\n18:05 bed: early\n",
            "Nora: ladder?\nTom: aye\nNora: good\nTom: well\n",
            "At 18:02 Nora said: come.\nWe came.\nAt 18:03 Tom said: go.\nWe went.\nIt rained.\n",
            "",
        ] {
            assert!(!is_unknown_chat(text), "{text}");
        }
    }
}
