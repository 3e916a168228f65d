//! Texts that repeat themselves, as greedy texts of small models do: detection of loops, and a ban on repeated n-grams.

use crate::llama::Token;

/// The least number of tokens that must equal the token one period earlier.
const MIN_REPEATED: usize = 24;

/// The longest period that is looked for, in tokens: a few sentences.
const MAX_PERIOD: usize = 128;

/// Whether `tokens` end in a block that comes at least three times in a row, with at least [`MIN_REPEATED`] tokens after its
/// first time.
pub(super) fn is_looping(tokens: &[Token]) -> bool {
    (1..=MAX_PERIOD).any(|period| {
        let n_repeated = MIN_REPEATED.max(2 * period);
        let first = tokens.len().checked_sub(n_repeated + period);
        first.is_some_and(|first| {
            let tail = &tokens[first..];
            tail[period..] == tail[..n_repeated]
        })
    })
}

/// The tokens of an answer in which no n-gram may occur twice.
#[derive(Debug, Clone)]
pub(super) struct Unrepeated {
    n: usize,
    tokens: Vec<Token>,
}

impl Unrepeated {
    /// An empty answer; `n` is at least 1.
    pub fn new(n: usize) -> Self {
        Self {
            n,
            tokens: Vec::new(),
        }
    }

    pub fn accept(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// The tokens that would complete an n-gram that the answer has already.
    pub fn banned(&self) -> impl Iterator<Item = Token> {
        let last = self.tokens.len().checked_sub(self.n - 1);
        let last = last.map_or(&[][..], |first| &self.tokens[first..]);
        let grams = self.tokens.windows(self.n);
        let repeated = grams.filter(move |gram| gram[..gram.len() - 1] == *last);
        repeated.map(|gram| gram[gram.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_completes_a_repeated_n_gram_is_banned() {
        let banned = |n, tokens: &[Token]| {
            let mut text = Unrepeated::new(n);
            tokens.iter().for_each(|&token| text.accept(token));
            text.banned().collect::<Vec<_>>()
        };
        assert_eq!(banned(3, &[1, 2, 3, 1, 2, 4, 1, 2]), [3, 4]);
        assert_eq!(banned(2, &[5, 5]), [5]);
        assert_eq!(banned(1, &[5, 6]), [5, 6]);
        for few in [&[][..], &[1], &[1, 1]] {
            assert!(banned(3, few).is_empty(), "{few:?}");
        }
        assert!(banned(3, &[1, 2, 3, 2, 1]).is_empty());
    }

    /// The length at which a text of `before` and then `block` over and over is found to loop.
    fn found_at(before: &[Token], block: &[Token]) -> Option<usize> {
        let text: Vec<_> = before
            .iter()
            .chain(block.iter().cycle().take(1000))
            .copied()
            .collect();
        (1..=text.len()).find(|&len| is_looping(&text[..len]))
    }

    #[test]
    fn a_loop_is_found_at_the_third_time_of_its_block_and_after_24_tokens() {
        assert_eq!(found_at(&[], &[7]), Some(1 + MIN_REPEATED));
        assert_eq!(found_at(&[], &[7, 8, 9]), Some(3 + MIN_REPEATED));
        let long: Vec<Token> = (0..40).collect();
        assert_eq!(found_at(&[100, 101], &long), Some(2 + 120));
        let longest: Vec<Token> = (0..=MAX_PERIOD as Token).collect();
        assert_eq!(found_at(&[], &longest), None);
    }

    #[test]
    fn a_block_that_comes_twice_is_no_loop() {
        let mut text: Vec<Token> = (0..60).chain(0..60).collect();
        assert!(!is_looping(&text));
        text.extend(0..59);
        assert!(!is_looping(&text));
        text.push(59);
        assert!(is_looping(&text));
    }
}
