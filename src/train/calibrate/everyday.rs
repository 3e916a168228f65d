//! Everyday questions with known answers in several languages, by which calibration measures whether a voice keeps what
//! its base knows.

use serde::Deserialize;
use serde_json::json;

use crate::train::encoder::{Encoded, Encoder};
use crate::{Error, Result};

/// The questions, one a line; `models/README.md` describes the fields.
const QUESTIONS: &str = include_str!("../../../models/everyday.jsonl");

/// A question with the beginning of an answer, and the only right way to go on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The language, by its code of two letters.
    pub language: String,
    /// The question.
    pub prompt: String,
    /// The beginning of the answer, which is given; may be empty.
    #[serde(default)]
    pub begin: String,
    /// The rest of the answer, which is scored.
    pub answer: String,
}

/// All questions.
///
/// # Errors
/// The file in the tree is malformed.
pub fn questions() -> Result<Vec<Question>> {
    let parse = |line| serde_json::from_str(line).map_err(Error::bug);
    QUESTIONS.lines().map(parse).collect()
}

/// The questions as tokens.
///
/// # Errors
/// The chat template refuses a question.
pub(in crate::train) fn encoded(encoder: &Encoder) -> Result<Vec<Encoded>> {
    let questions = questions()?.into_iter();
    questions
        .map(|it| encoder.question(&it.prompt, &it.begin, &it.answer))
        .collect()
}

/// SHA-256 of the questions.
pub(in crate::train) fn digest() -> String {
    crate::digest::digest(&json!(QUESTIONS))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_questions_are_well_formed_and_of_six_languages() {
        let questions = questions().unwrap();
        let mut languages = BTreeMap::<_, usize>::new();
        for question in &questions {
            *languages.entry(question.language.as_str()).or_default() += 1;
            assert!(!question.prompt.is_empty() && !question.answer.trim().is_empty());
            // A word that goes on from a beginning has a space before it, or the beginning ends in the middle.
            let joins = question.begin.is_empty() || question.begin.ends_with('"');
            assert_eq!(!question.answer.starts_with(' '), joins, "{question:?}");
        }
        assert!((70..=80).contains(&questions.len()), "{}", questions.len());
        assert_eq!(languages.len(), 6, "{languages:?}");
        assert!(languages.values().all(|n| *n >= 5), "{languages:?}");
        let prompts: BTreeSet<_> = questions.iter().map(|it| &it.prompt).collect();
        assert_eq!(prompts.len(), questions.len());
    }
}
