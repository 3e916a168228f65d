//! Drafts: the tokens that followed the same tokens before, in the prompt, in the text so far, or in the user's texts.

use std::collections::HashMap;
use std::sync::Arc;

use crate::llama::Token;

/// The length of the runs of tokens by which places are indexed; shorter repeats are not found.
const GRAM: usize = 3;

/// The most places that a proposal compares, the latest first.
const MAX_PLACES: usize = 32;

/// A number that is no token, which separates two texts.
const BREAK: Token = -1;

/// The texts that drafts are taken from: the user's history, which clones share, and the current text.
#[derive(Debug, Clone, Default)]
pub struct Drafter {
    history: Arc<Index>,
    text: Index,
}

impl Drafter {
    /// A drafter from the tokens of the user's texts.
    #[must_use]
    pub fn new(history: &[Vec<Token>]) -> Self {
        let mut index = Index::default();
        for text in history {
            index.extend(text);
            index.extend(&[BREAK]);
        }
        Self {
            history: Arc::new(index),
            text: Index::default(),
        }
    }

    /// Appends tokens to the current text.
    pub fn extend(&mut self, tokens: &[Token]) {
        self.text.extend(tokens);
    }

    /// Proposes at most `max` tokens that may come next: those that followed the longest earlier occurrence of the text's
    /// end, if that has at least `min_match` tokens. Among occurrences of equal length, one in the current text is preferred
    /// to one in the history, and the latest to earlier ones.
    #[must_use]
    pub fn propose(&self, min_match: usize, max: usize) -> &[Token] {
        let end = &self.text.tokens;
        let longest = [&self.text, &*self.history]
            .into_iter()
            .flat_map(|index| index.repeats(end))
            .reduce(|longest, next| {
                if next.len > longest.len {
                    next
                } else {
                    longest
                }
            });
        match longest {
            Some(repeat) if repeat.len >= min_match => {
                let draft = &repeat.next[..max.min(repeat.next.len())];
                let text_end = draft.iter().position(|&token| token == BREAK);
                &draft[..text_end.unwrap_or(draft.len())]
            }
            _ => &[],
        }
    }
}

/// Tokens with the places at which each run of [`GRAM`] tokens ends.
#[derive(Debug, Clone, Default)]
struct Index {
    tokens: Vec<Token>,
    /// For each run, the number of tokens up to the end of each of its occurrences.
    places: HashMap<[Token; GRAM], Vec<u32>>,
}

/// An earlier occurrence of a text's end.
struct Repeat<'a> {
    /// The number of equal tokens before the place.
    len: usize,
    /// The tokens after the place, beyond the end of its text too.
    next: &'a [Token],
}

impl Index {
    fn extend(&mut self, tokens: &[Token]) {
        for &token in tokens {
            self.tokens.push(token);
            if let Some(&gram) = self.tokens.last_chunk() {
                let places = self.places.entry(gram).or_default();
                places.push(self.tokens.len() as u32);
            }
        }
    }

    /// The latest occurrences of the end of `text` that something follows.
    fn repeats<'a>(&'a self, text: &'a [Token]) -> impl Iterator<Item = Repeat<'a>> {
        let gram = text.last_chunk();
        let places = gram.and_then(|gram| self.places.get(gram));
        let places = places.map_or(&[][..], Vec::as_slice).iter().rev();
        let followed = places.map(|&place| self.tokens.split_at(place as usize));
        followed
            .filter(|(_, next)| !next.is_empty())
            .take(MAX_PLACES)
            .map(|(before, next)| {
                let same = std::iter::zip(before.iter().rev(), text.iter().rev());
                let len = same.take_while(|(x, y)| x == y).count();
                Repeat { len, next }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_followed_the_same_tokens() {
        let mut drafter = Drafter::default();
        drafter.extend(&[1, 2, 3, 4, 5, 1, 2, 3]);
        assert_eq!(drafter.propose(3, 3), [4, 5, 1]);
        assert!(drafter.propose(4, 3).is_empty());
        drafter.extend(&[4]);
        assert_eq!(drafter.propose(4, 9), [5, 1, 2, 3, 4]);
    }

    #[test]
    fn the_longest_repeat_is_preferred_then_the_latest() {
        let mut drafter = Drafter::default();
        drafter.extend(&[9, 1, 2, 3, 7, 8, 1, 2, 3, 6, 9, 1, 2, 3]);
        assert_eq!(drafter.propose(3, 1), [7], "four tokens repeat there");
        drafter.extend(&[5, 1, 2, 3]);
        assert_eq!(drafter.propose(3, 1), [5], "three everywhere");
    }

    #[test]
    fn drafts_come_from_the_users_texts_and_stop_at_their_ends() {
        let mut drafter = Drafter::new(&[vec![1, 2, 3, 4], vec![5, 6, 7]]);
        drafter.extend(&[1, 2, 3]);
        assert_eq!(drafter.propose(3, 9), [4]);
        drafter.extend(&[4]);
        assert!(drafter.propose(3, 9).is_empty(), "nothing follows there");
        let mut across = Drafter::new(&[vec![1, 2], vec![3, 4]]);
        across.extend(&[2, 3, 4]);
        assert!(
            across.propose(1, 9).is_empty(),
            "no repeat goes across texts"
        );
    }

    #[test]
    fn a_text_shorter_than_a_run_has_no_draft() {
        let mut drafter = Drafter::default();
        assert!(drafter.propose(0, 9).is_empty());
        drafter.extend(&[1, 1, 1]);
        assert!(drafter.propose(0, 9).is_empty());
        drafter.extend(&[1]);
        assert_eq!(drafter.propose(3, 9), [1]);
    }
}
