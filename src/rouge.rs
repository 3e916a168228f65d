//! ROUGE between a prediction and one reference (Lin, 2004), as `rouge_score` 0.1.2 computes it without its stemmer.
//!
//! METEOR, which LaMP's papers give beside it, is left out: as NLTK computes it, words match by their synonyms in
//! `WordNet` too, a dictionary of some 30 MB, and without these it would be another measure of the same name.

use std::collections::HashMap;

/// F1 of two measures, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rouge {
    /// Of the words, with how often each comes.
    pub rouge_1: f64,
    /// Of the longest common subsequence of words.
    pub rouge_l: f64,
}

impl Rouge {
    /// The score of `prediction` beside `reference`; 0 where either has no words.
    #[must_use]
    pub fn new(prediction: &str, reference: &str) -> Self {
        let (prediction, reference) = (prediction.to_lowercase(), reference.to_lowercase());
        let (prediction, reference) = (words(&prediction), words(&reference));
        let f1 = |n_common: usize| {
            let precision = n_common as f64 / prediction.len().max(1) as f64;
            let recall = n_common as f64 / reference.len().max(1) as f64;
            if n_common == 0 {
                0.0
            } else {
                2.0 * precision * recall / (precision + recall)
            }
        };
        Self {
            rouge_1: f1(n_common_words(&prediction, &reference)),
            rouge_l: f1(common_subsequence_len(&prediction, &reference)),
        }
    }
}

/// Runs of `[a-z0-9]` in a lower-case text; all else separates.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !matches!(c, 'a'..='z' | '0'..='9'))
        .filter(|word| !word.is_empty())
        .collect()
}

/// The size of the intersection of two bags of words.
fn n_common_words(one: &[&str], other: &[&str]) -> usize {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for &word in one {
        *left.entry(word).or_insert(0) += 1;
    }
    let mut is_common = |word: &str| match left.get_mut(word) {
        Some(n) if *n > 0 => {
            *n -= 1;
            true
        }
        _ => false,
    };
    other.iter().filter(|&&word| is_common(word)).count()
}

/// The length of the longest common subsequence, by the usual table of prefixes, of which one row is kept.
fn common_subsequence_len(one: &[&str], other: &[&str]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for x in one {
        let mut diagonal = 0;
        for (column, y) in other.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(row[column])
            };
            diagonal = above;
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_ascii_letters_and_digits() {
        let text = "It's 3.5 naïve—\u{212a}elvin\u{130}s A_b".to_lowercase();
        let expected = ["it", "s", "3", "5", "na", "ve", "kelvini", "s", "a", "b"];
        assert_eq!(words(&text), expected);
        assert!(words(" \n…").is_empty());
    }

    #[test]
    fn scores_are_f1_of_the_common_words_and_of_their_order() {
        // Of 3 and 4 words 3 are common, of which 2 in order.
        let Rouge { rouge_1, rouge_l } = Rouge::new("the cat sat", "Sat the black cat");
        assert!((rouge_1 - 6.0 / 7.0).abs() < 1e-15);
        assert!((rouge_l - 4.0 / 7.0).abs() < 1e-15);
        assert_eq!(Rouge::new("", "word"), Rouge::default());
        assert_eq!(Rouge::new("word", "…"), Rouge::default());
        // A word counts as often as both have it.
        let twice = Rouge::new("a a a", "a a b").rouge_1;
        assert!((twice - 2.0 / 3.0).abs() < 1e-15);
    }
}
