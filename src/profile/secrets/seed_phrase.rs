//! Finds the words from which wallets of cryptocurrencies are made (BIP 39).

use std::ops::Range;

use bip39::{Language, Mnemonic};

use super::numbers::runs;

/// The numbers of words that a phrase may have.
const LENGTHS: [usize; 5] = [24, 21, 18, 15, 12];

/// The longest separation of two words, in bytes: a number, a stop and blanks where they are counted.
const MAX_BETWEEN: usize = 6;

/// The English phrases in a text. Their words are all of one list, and a part of the last one is a checksum.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut run: Vec<Range<usize>> = Vec::new();
    for word in runs(text, char::is_alphabetic) {
        let is_near = run
            .last()
            .is_none_or(|last| word.start - last.end <= MAX_BETWEEN);
        let is_listed = is_listed(&text[word.clone()]);
        if !is_listed || !is_near {
            found.extend(phrases(text, &run));
            run.clear();
        }
        if is_listed {
            run.push(word);
        }
    }
    found.extend(phrases(text, &run));
    found
}

fn is_listed(word: &str) -> bool {
    (3..=8).contains(&word.len())
        && Language::English
            .find_word(&word.to_ascii_lowercase())
            .is_some()
}

/// The phrases in consecutive words of the list.
fn phrases(text: &str, run: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut first = 0;
    while first + 12 <= run.len() {
        let n = LENGTHS.into_iter().find(|n| {
            let taken = run.get(first..first + n);
            taken.is_some_and(|taken| is_phrase(text, taken))
        });
        if let Some(n) = n {
            found.push(run[first].start..run[first + n - 1].end);
        }
        first += n.unwrap_or(1);
    }
    found
}

fn is_phrase(text: &str, words: &[Range<usize>]) -> bool {
    let words: Vec<_> = words
        .iter()
        .map(|it| text[it.clone()].to_ascii_lowercase())
        .collect();
    Mnemonic::parse_in_normalized(Language::English, &words.join(" ")).is_ok()
}
