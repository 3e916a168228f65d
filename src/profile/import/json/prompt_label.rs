//! The words that Google's record puts around a prompt, in the language of the account. Where they are not known, they are
//! learnt: they are what the titles of most answered prompts of one record have in common.

use std::collections::HashMap;

/// The fewest titles from which words are learnt, and the part of them that has these words.
const MIN_TITLES: usize = 5;
const SHARE: f64 = 0.8;

/// The most words around a prompt, and the most characters of them.
const MAX_WORDS: usize = 6;
const MAX_LABEL: usize = 48;

/// The most beginnings and ends that are counted.
const MAX_COUNTED: usize = 100_000;

/// How titles are written in English.
const ENGLISH: &str = "Prompted ";

/// The words around the prompts of one record.
#[derive(Debug, Default)]
pub(in crate::profile::import) struct PromptLabels {
    learnt: Option<PromptLabel>,
    n_titles: usize,
    /// How many titles begin with these words, and how many end with them.
    begins: HashMap<String, usize>,
    ends: HashMap<String, usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum PromptLabel {
    Before(String),
    After(String),
}

impl PromptLabels {
    /// The title of a prompt among unknown words as English accounts have it, if these have been learnt. Before that, they
    /// are counted.
    pub fn english(&mut self, title: &str) -> Option<String> {
        let typed = match &self.learnt {
            None => {
                self.count(title);
                return None;
            }
            Some(PromptLabel::Before(words)) => title.strip_prefix(words),
            Some(PromptLabel::After(words)) => title.strip_suffix(words),
        };
        typed.map(|typed| format!("{ENGLISH}{typed}"))
    }

    /// The words that have been learnt of a whole record, if there are any.
    pub fn learn(&self) -> Option<Self> {
        let n_shared = (self.n_titles as f64 * SHARE).ceil() as usize;
        let longest = |counted: &HashMap<String, usize>| {
            let shared = counted.iter().filter(|(_, n)| **n >= n_shared);
            shared
                .map(|(words, _)| words.clone())
                .max_by_key(String::len)
        };
        let before = longest(&self.begins).map(PromptLabel::Before);
        let learnt = before.or_else(|| longest(&self.ends).map(PromptLabel::After));
        (self.n_titles >= MIN_TITLES && learnt.is_some()).then(|| Self {
            learnt,
            ..Self::default()
        })
    }

    fn count(&mut self, title: &str) {
        self.n_titles += 1;
        let title = title.trim();
        let is_short = |words: &&str| words.chars().count() <= MAX_LABEL;
        let begins = title.match_indices([' ', '：']);
        let begins = begins.map(|(at, blank)| &title[..at + blank.len()]);
        count(
            begins.take(MAX_WORDS).take_while(is_short),
            &mut self.begins,
        );
        let ends = title.rmatch_indices(' ').map(|(at, _)| &title[at..]);
        count(ends.take(MAX_WORDS).take_while(is_short), &mut self.ends);
    }
}

fn count<'a>(words: impl Iterator<Item = &'a str>, counted: &mut HashMap<String, usize>) {
    for words in words {
        if let Some(n) = counted.get_mut(words) {
            *n += 1;
        } else if counted.len() < MAX_COUNTED {
            counted.insert(words.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The titles of prompts as they are read after the words of a record with these titles have been learnt.
    fn read(titles: &[&str]) -> Vec<String> {
        let mut labels = PromptLabels::default();
        for title in titles {
            assert_eq!(labels.english(title), None);
        }
        let mut labels = labels.learn().unwrap_or_default();
        let english = titles.iter().map(|it| labels.english(it));
        english
            .map(|it| it.unwrap_or_else(|| "-".to_owned()))
            .collect()
    }

    #[test]
    fn words_that_most_titles_have_are_learnt() {
        let prompts = ["slugs", "beans: why", "slugs again", "rain", "tea?"];
        let expected: Vec<_> = prompts.iter().map(|it| format!("Prompted {it}")).collect();
        let titles = |before: &str, after: &str| -> Vec<String> {
            prompts
                .iter()
                .map(|it| format!("{before}{it}{after}"))
                .collect()
        };
        for (before, after) in [
            ("Вы спросили: ", ""),
            ("Vous avez demandé ", ""),
            ("已詢問：", ""),
            ("", " sordun"),
        ] {
            let titles = titles(before, after);
            let titles: Vec<_> = titles.iter().map(String::as_str).collect();
            assert_eq!(read(&titles), expected, "{before}…{after}");
            let mut mixed = titles.clone();
            mixed[0] = "другое";
            assert_eq!(read(&mixed)[1..], expected[1..], "{before}…{after}");
            assert_eq!(read(&mixed)[0], "-");
        }
    }

    #[test]
    fn few_titles_and_titles_without_common_words_teach_nothing() {
        for titles in [
            &["Вы спросили: a", "Вы спросили: b"][..],
            &["aa b", "bb c", "cc d", "dd e", "ee f"],
            &["a", "b", "c", "d", "e"],
        ] {
            assert!(read(titles).iter().all(|it| it == "-"), "{titles:?}");
        }
    }
}
