//! Digits and runs of characters, and the parts of a match that checks find.

use std::ops::Range;

/// The part of a match that is a secret; `None` when nothing is.
pub(super) type SecretCheck = fn(&str) -> Option<Range<usize>>;

/// All of a match, if it is a secret.
pub(super) fn whole(text: &str, is_secret: bool) -> Option<Range<usize>> {
    is_secret.then_some(0..text.len())
}

/// The digits of a text as numbers.
pub(super) fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// The places of the longest runs of such characters in a text.
pub(super) fn runs(text: &str, is_in: fn(char) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, c) in text.match_indices(is_in) {
        match runs.last_mut() {
            Some(last) if last.end == at => last.end += c.len(),
            _ => runs.push(at..at + c.len()),
        }
    }
    runs
}

/// Whether the last digit is the check digit of those before it.
pub(super) fn is_luhn(number: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let places = number.iter().rev().zip([false, true].into_iter().cycle());
    let sum: u32 = places
        .map(|(&digit, is_second)| if is_second { doubled(digit) } else { digit })
        .sum();
    sum.is_multiple_of(10) && number.iter().any(|&digit| digit != number[0])
}
