//! ROUGE (Lin 2004) of a prediction against one reference, as `rouge_score` 0.1.2 computes it without its stemmer.
//!
//! METEOR, which the LaMP papers report too, is left out: NLTK's METEOR also matches synonyms from `WordNet`, a
//! dictionary of about 30 MB, and METEOR without synonyms would be another measure under the same name.

use std::collections::HashMap;

/// Two F1 scores, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rouge {
    /// F1 of the common words; a word counts as often as both texts have it.
    pub rouge_1: f64,
    /// F1 of the longest common subsequence of words.
    pub rouge_l: f64,
}

impl Rouge {
    /// The scores of `prediction` against `reference`; 0 if one of them has no words.
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

/// The words of a lower-case text: runs of `[a-z0-9]`. All other characters separate words.
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

/// The length of the longest common subsequence, by dynamic programming over prefixes with one row of the table in
/// memory.
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
    fn scores_are_the_f1_of_common_words_and_of_the_common_subsequence() {
        // The texts have 3 and 4 words; 3 words are common, and 2 of these are in the same order.
        let Rouge { rouge_1, rouge_l } = Rouge::new("the cat sat", "Sat the black cat");
        assert!((rouge_1 - 6.0 / 7.0).abs() < 1e-15);
        assert!((rouge_l - 4.0 / 7.0).abs() < 1e-15);
        assert_eq!(Rouge::new("", "word"), Rouge::default());
        assert_eq!(Rouge::new("word", "…"), Rouge::default());
        // A word counts as often as both texts have it.
        let twice = Rouge::new("a a a", "a a b").rouge_1;
        assert!((twice - 2.0 / 3.0).abs() < 1e-15);
    }
}
