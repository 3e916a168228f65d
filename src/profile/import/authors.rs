//! The names of the user, and the people of a file by the number of their texts.

use std::collections::HashMap;

use caseless::default_case_fold_str;
use unicode_normalization::UnicodeNormalization;

use crate::error::{TextCounts, is_mark};

/// The most people who are counted. A mailing list has more senders, and a person is among the first of their own files.
const MAX_PEOPLE: usize = 100_000;

/// The fewest digits of a telephone number.
const MIN_DIGITS: usize = 6;

/// The addresses and names of the user.
pub(super) struct Authors(Vec<Vec<String>>);

impl Authors {
    pub fn new(authors: &[String]) -> Self {
        // `Tom Berg <tom@berg.example>` is a name and an address.
        let authors = authors.iter().flat_map(|author| author.split(['<', '>']));
        let authors = authors.map(words);
        Self(authors.filter(|words| !words.is_empty()).collect())
    }

    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The words of each name.
    pub fn iter(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Whether one of `names` is one of these. The words of a name may stand in any order, as in `Hill, Bob`.
    pub fn include<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let mut names = names.into_iter().map(words);
        names.any(|name| self.0.contains(&name))
    }
}

/// The words of a name, in the order of the alphabet, with case and the forms of characters folded. Of a telephone number
/// they are its digits.
pub(super) fn words(name: &str) -> Vec<String> {
    let name: String = name.nfkc().filter(|it| !is_mark(*it)).collect();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let is_of_number = |it: char| it.is_ascii_digit() || it.is_whitespace() || "+-().".contains(it);
    if digits.len() >= MIN_DIGITS && name.chars().all(is_of_number) {
        return vec![digits];
    }
    let folded = default_case_fold_str(&name);
    let words = folded
        .split(|character: char| character.is_whitespace() || ",\"'<>()~".contains(character));
    let mut words: Vec<_> = words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.sort_unstable();
    words
}

/// The people of a file, each with the number of their texts.
#[derive(Default)]
pub(super) struct People(HashMap<String, usize>);

impl People {
    /// Counts a text by the person of this name.
    pub fn count(&mut self, name: &str) {
        if let Some(n) = self.0.get_mut(name) {
            *n += 1;
        } else if self.0.len() < MAX_PEOPLE {
            self.0.insert(name.to_owned(), 1);
        }
    }

    /// The names with their counts, those with most texts first.
    pub fn counts(&self) -> TextCounts {
        let people = self.0.iter().map(|(name, n)| (name.clone(), *n));
        let mut people: Vec<_> = people.collect();
        people.sort_by(|(name, n), (other, m)| m.cmp(n).then_with(|| name.cmp(other)));
        TextCounts(people)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_by_its_words_and_a_number_by_its_digits() {
        let authors = ["Tom Berg <tom@berg.example>", "+44 (7700) 900-123"];
        let authors = Authors::new(&authors.map(str::to_owned));
        for (name, is_own) in [
            ("tom BERG", true),
            ("Berg, Tom", true),
            ("~\u{a0}Ｔom Berg", true),
            ("\u{202a}+44\u{a0}7700\u{a0}900123\u{202c}", true),
            ("TOM@berg.example", true),
            ("Tom", false),
            ("Tom Berg 2", false),
            ("+44 7700 90012", false),
            ("", false),
        ] {
            assert_eq!(authors.include([name]), is_own, "{name:?}");
        }
    }

    #[test]
    fn people_are_listed_by_their_counts() {
        let mut people = People::default();
        for name in ["b", "a", "b", "c"] {
            people.count(name);
        }
        assert_eq!(people.counts().to_string(), "b (2), a (1), c (1)");
    }
}
