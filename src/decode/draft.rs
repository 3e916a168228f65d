//! Drafts: what came after the same words before, in the prompt, in the text so far, or in what the user has written.

use std::collections::HashMap;
use std::sync::Arc;

use crate::llama::Token;

/// So many tokens have to be the same for a place to be looked at.
const GRAM: usize = 3;

/// So many places are looked at, the latest first.
const MAX_PLACES: usize = 32;

/// No token: between two texts.
const BREAK: Token = -1;

/// All that drafts are taken from: the user's history, which clones share, and the text that is gone on with.
#[derive(Debug, Clone, Default)]
pub struct Drafter {
    history: Arc<Index>,
    text: Index,
}

impl Drafter {
    /// A drafter from `history`, texts of the user.
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

    /// Appends to the text that drafts go on with.
    pub fn extend(&mut self, tokens: &[Token]) {
        self.text.extend(tokens);
    }

    /// What may come next, at most `max` tokens: what followed the longest repeat of the text's end, if it has at least
    /// `min_match` tokens; of equals one in the text itself, and of those the latest.
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

/// Tokens, and where each run of [`GRAM`] of them ends.
#[derive(Debug, Clone, Default)]
struct Index {
    tokens: Vec<Token>,
    /// By run, the lengths of what comes up to its end.
    places: HashMap<[Token; GRAM], Vec<u32>>,
}

/// A place with the same tokens before it as at a text's end.
struct Repeat<'a> {
    /// How many of them.
    len: usize,
    /// What follows there, in its text and beyond.
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

    /// The latest repeats of the end of `text`, that end itself left out.
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
    fn a_repeat_is_gone_on_with() {
        let mut drafter = Drafter::default();
        drafter.extend(&[1, 2, 3, 4, 5, 1, 2, 3]);
        assert_eq!(drafter.propose(3, 3), [4, 5, 1]);
        assert!(drafter.propose(4, 3).is_empty());
        drafter.extend(&[4]);
        assert_eq!(drafter.propose(4, 9), [5, 1, 2, 3, 4]);
    }

    #[test]
    fn the_longest_repeat_wins_and_then_the_latest() {
        let mut drafter = Drafter::default();
        drafter.extend(&[9, 1, 2, 3, 7, 8, 1, 2, 3, 6, 9, 1, 2, 3]);
        assert_eq!(drafter.propose(3, 1), [7], "four tokens repeat there");
        drafter.extend(&[5, 1, 2, 3]);
        assert_eq!(drafter.propose(3, 1), [5], "three everywhere");
    }

    #[test]
    fn the_users_texts_are_drafted_from_and_end_where_they_end() {
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
    fn short_texts_have_no_drafts() {
        let mut drafter = Drafter::default();
        assert!(drafter.propose(0, 9).is_empty());
        drafter.extend(&[1, 1, 1]);
        assert!(drafter.propose(0, 9).is_empty());
        drafter.extend(&[1]);
        assert_eq!(drafter.propose(3, 9), [1]);
    }
}
