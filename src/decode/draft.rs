//! Drafts: what came after the same words before, in the prompt, in the text so far, or in what the user has written.

use std::collections::HashMap;

use crate::llama::Token;

/// So many tokens have to be the same for a place to be looked at.
const GRAM: usize = 3;

/// So many places are looked at, the latest first.
const MAX_PLACES: usize = 32;

/// No token: between two texts.
const BREAK: Token = -1;

/// All that drafts are taken from, with an index. A place in it is the length of what comes before.
#[derive(Debug, Clone, Default)]
pub struct Drafter {
    corpus: Vec<Token>,
    places: HashMap<[Token; GRAM], Vec<u32>>,
}

impl Drafter {
    /// A drafter from `texts` of the user.
    #[must_use]
    pub fn new(texts: &[Vec<Token>]) -> Self {
        let mut drafter = Self::default();
        for text in texts {
            drafter.extend(text);
            drafter.corpus.push(BREAK);
        }
        drafter
    }

    /// Appends to the text that drafts go on with.
    pub fn extend(&mut self, tokens: &[Token]) {
        for &token in tokens {
            self.corpus.push(token);
            if let Some(&gram) = self.corpus.last_chunk() {
                let places = self.places.entry(gram).or_default();
                places.push(self.corpus.len() as u32);
            }
        }
    }

    /// What may come next, at most `max` tokens: what followed the longest repeat of the text's end, and of equals the
    /// latest, if it has at least `min_match` tokens.
    #[must_use]
    pub fn propose(&self, min_match: usize, max: usize) -> &[Token] {
        let end = self.corpus.len();
        let Some(gram) = self.corpus.last_chunk() else {
            return &[];
        };
        let places = self.places.get(gram).map_or(&[][..], Vec::as_slice);
        let earlier = places
            .iter()
            .rev()
            .map(|&place| place as usize)
            .filter(|&place| place < end);
        let longest = earlier
            .take(MAX_PLACES)
            .map(|place| (self.match_len(place), place))
            .reduce(|longest, next| if next.0 > longest.0 { next } else { longest });
        match longest {
            Some((match_len, place)) if match_len >= min_match => {
                let draft = &self.corpus[place..end.min(place + max)];
                let text_end = draft.iter().position(|&token| token == BREAK);
                &draft[..text_end.unwrap_or(draft.len())]
            }
            _ => &[],
        }
    }

    /// How many tokens before `place` are those before the end.
    fn match_len(&self, place: usize) -> usize {
        let before = self.corpus[..place].iter().rev();
        let last = self.corpus.iter().rev();
        std::iter::zip(before, last)
            .take_while(|(x, y)| x == y && **x != BREAK)
            .count()
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
