//! Answers that repeat themselves, measured independently of the product's own loop guard.

use std::collections::HashSet;

use cope_llama::decode::Finish;
use cope_llama::llama::Token;

/// The longest unit that is looked for at the end of an answer, in tokens.
const MAX_UNIT: usize = 40;

/// How often a unit has to come in a row at the end.
const TIMES: usize = 4;

/// Whether an answer is a loop: the guard ended it, or a unit of 1 to 40 tokens comes four times in a row at its end, or
/// at least 60 % of its 4-grams of words are repeats of earlier ones.
pub fn is_loop(tokens: &[Token], text: &str, finish: Finish) -> bool {
    let (distinct, total) = four_grams(text);
    let repeats = total - distinct;
    finish == Finish::Loop || ends_in_repeats(tokens) || total > 0 && repeats * 5 >= total * 3
}

/// The share of an answer's 4-grams of words that are distinct; `None` for an answer of fewer words.
pub fn distinct_4(text: &str) -> Option<f64> {
    let (distinct, total) = four_grams(text);
    (total > 0).then(|| distinct as f64 / total as f64)
}

/// The numbers of distinct 4-grams of words, and of all.
fn four_grams(text: &str) -> (usize, usize) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let distinct: HashSet<&[&str]> = words.windows(4).collect();
    (distinct.len(), words.windows(4).len())
}

/// Whether the last tokens are a unit [`TIMES`] times in a row; the answer may have been cut within a unit.
fn ends_in_repeats(tokens: &[Token]) -> bool {
    (1..=MAX_UNIT).any(|unit| {
        let first = tokens.len().checked_sub(TIMES * unit);
        first.is_some_and(|first| {
            let tail = &tokens[first..];
            tail[unit..] == tail[..tail.len() - unit]
        })
    })
}
