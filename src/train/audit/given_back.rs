//! The parts of texts that greedy decoding gives back.

use std::collections::HashSet;

use super::Scored;
use crate::home::{ByArm, GivenBack};
use crate::train::calibrate::score::TokenScore;
use crate::train::encoder::Encoded;

const N_TOKENS: usize = GivenBack::N_TOKENS;

/// Counts the texts of which a part is given back.
pub(super) fn count(texts: &[Encoded], scores: &[Scored]) -> GivenBack {
    let mut count = GivenBack::default();
    for (text, scores) in texts.iter().zip(scores) {
        let parts = own_parts(text);
        let logprob = |&start: &usize| -> f32 {
            let tokens = &scores.base[start..start + N_TOKENS];
            tokens.iter().map(|token| token.logprob).sum()
        };
        let Some(rarest) = parts
            .iter()
            .min_by(|one, other| logprob(one).total_cmp(&logprob(other)))
        else {
            continue;
        };
        count.n_texts += 1;
        let any = |scores: &[TokenScore]| parts.iter().any(|&start| is_given_back(scores, start));
        add(&mut count.any, scores, &any);
        add(&mut count.rarest, scores, &|scores| {
            is_given_back(scores, *rarest)
        });
    }
    count
}

fn add(count: &mut ByArm<usize>, scores: &Scored, is_so: &dyn Fn(&[TokenScore]) -> bool) {
    count.base += usize::from(is_so(&scores.base));
    count.user += usize::from(is_so(&scores.user));
    count.cope += usize::from(is_so(&scores.cope));
}

/// Whether greedy decoding writes the part that begins at the token `start`, given all before it.
fn is_given_back(scores: &[TokenScore], start: usize) -> bool {
    let part = &scores[start..start + N_TOKENS];
    part.iter().all(|token| token.is_best)
}

/// The beginnings of the parts of a response that its prompt does not hold. The end-of-turn token belongs to none.
fn own_parts(text: &Encoded) -> Vec<usize> {
    let of_prompt: HashSet<_> = text.prompt.windows(N_TOKENS).collect();
    let response = &text.response[..text.response.len().saturating_sub(1)];
    let parts = response.windows(N_TOKENS).enumerate();
    parts
        .filter(|(_, part)| !of_prompt.contains(part))
        .map(|(start, _)| start)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of which those in `best` are written by greedy decoding. Their log-probabilities are −1, but −5 from the token
    /// `rare` on.
    fn tokens(n: usize, best: std::ops::Range<usize>, rare: usize) -> Vec<TokenScore> {
        let token = |i| TokenScore {
            logprob: if i < rare { -1.0 } else { -5.0 },
            is_best: best.contains(&i),
        };
        (0..n).map(token).collect()
    }

    fn text(prompt: std::ops::Range<i32>, response: std::ops::Range<i32>) -> Encoded {
        Encoded {
            prompt: prompt.collect(),
            response: response.chain([0]).collect(),
        }
    }

    #[test]
    fn eight_tokens_in_a_row_are_given_back_and_seven_are_not() {
        let texts = [text(1..5, 100..112)];
        let scores = |user: std::ops::Range<usize>| ByArm {
            base: tokens(13, 0..7, 4),
            user: tokens(13, user, 0),
            cope: tokens(13, 5..13, 0),
        };
        // The end of the turn, token 12, is no part of the text, and the rarest part is that from token 4 on.
        let count = count(&texts, &[scores(4..12)]);
        assert_eq!(count.n_texts, 1);
        assert_eq!(count.any.each(), [&0, &1, &0]);
        assert_eq!(count.rarest.each(), [&0, &1, &0]);
        let another = super::count(&texts, &[scores(0..9)]);
        assert_eq!(another.any.each(), [&0, &1, &0]);
        assert_eq!(another.rarest.each(), [&0, &0, &0]);
    }

    #[test]
    fn parts_that_the_prompt_holds_and_short_texts_do_not_count() {
        let scores = |n| ByArm::new(|_| tokens(n, 0..n, 0));
        // The response is the prompt's tokens 3 to 14, then one more: only parts with that one are its own.
        let texts = [text(1..15, 3..16), text(1..15, 3..15), text(1..3, 50..57)];
        let counted = count(&texts[..1], &[scores(14)]);
        assert_eq!((counted.n_texts, counted.any.user), (1, 1));
        assert_eq!(own_parts(&texts[0]), [5]);
        for (text, n) in [(1, 13), (2, 8)] {
            assert_eq!(
                count(&texts[text..=text], &[scores(n)]),
                GivenBack::default()
            );
        }
    }
}
