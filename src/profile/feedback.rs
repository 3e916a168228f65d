//! What a user says of answers in their voice, and what DPO learns from it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Example, Pair};
use crate::message::Message;

/// A line of `feedback.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// What was asked.
    pub prompt: Vec<Message>,
    /// What was answered, or what should have been.
    pub response: String,
    /// What the user says of it.
    pub verdict: Verdict,
}

/// What a user says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as they would write.
    Good,
    /// It is not.
    Bad,
}

impl Feedback {
    /// An answer that the user has put right: the one is bad, the other good.
    #[must_use]
    pub fn edit(prompt: &[Message], answer: &str, edited: &str) -> [Self; 2] {
        [(answer, Verdict::Bad), (edited, Verdict::Good)].map(|(response, verdict)| Self {
            prompt: prompt.to_vec(),
            response: response.to_owned(),
            verdict,
        })
    }
}

/// All that was said, by what was asked. Of what was said of one answer the last holds.
#[derive(Debug, Default)]
pub struct Verdicts {
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    prompt: Vec<Message>,
    good: Vec<String>,
    bad: Vec<String>,
}

impl Verdicts {
    /// Of `feedback`, oldest first.
    #[must_use]
    pub fn of(feedback: &[Feedback]) -> Self {
        let mut verdicts = Self::default();
        let mut places: HashMap<&[Message], usize> = HashMap::new();
        for one in feedback {
            let place = *places.entry(&one.prompt).or_insert_with(|| {
                verdicts.asked.push(Asked {
                    prompt: one.prompt.clone(),
                    good: Vec::new(),
                    bad: Vec::new(),
                });
                verdicts.asked.len() - 1
            });
            let Asked { good, bad, .. } = &mut verdicts.asked[place];
            for said in [&mut *good, &mut *bad] {
                said.retain(|response| *response != one.response);
            }
            match one.verdict {
                Verdict::Good => good.push(one.response.clone()),
                Verdict::Bad => bad.push(one.response.clone()),
            }
        }
        verdicts
    }

    /// Every good answer with every bad one to the same.
    #[must_use]
    pub fn pairs(&self) -> Vec<Pair> {
        let of = |asked: &Asked| {
            let both = (asked.good.iter())
                .flat_map(|good| asked.bad.iter().map(move |bad| (good.clone(), bad.clone())));
            both.filter_map(|(good, bad)| Pair::new(&asked.prompt, good, bad, true))
                .collect::<Vec<_>>()
        };
        self.asked.iter().flat_map(of).collect()
    }

    /// The good answers beside which there is no bad one, for which one is to be found.
    #[must_use]
    pub fn liked(&self) -> Vec<Example> {
        let alone = self.asked.iter().filter(|asked| asked.bad.is_empty());
        let examples = alone.flat_map(|asked| {
            asked.good.iter().map(|response| Example {
                prompt: asked.prompt.clone(),
                response: response.clone(),
            })
        });
        examples.collect()
    }

    /// The bad answers beside which there is no good one: nothing can be learnt from them yet.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        let alone = self.asked.iter().filter(|asked| asked.good.is_empty());
        alone.map(|asked| asked.bad.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(prompt: &str, response: &str, verdict: Verdict) -> Feedback {
        Feedback {
            prompt: vec![Message::user(prompt)],
            response: response.to_owned(),
            verdict,
        }
    }

    fn said_in(side: &[Message]) -> String {
        side[0].content.clone()
    }

    #[test]
    fn good_answers_meet_bad_ones_to_the_same_question() {
        use Verdict::{Bad, Good};
        let feedback = [
            said("a", "one", Bad),
            said("b", "two", Good),
            said("a", "three", Good),
            said("a", "four", Bad),
            said("c", "five", Bad),
            // They think better of it.
            said("d", "six", Bad),
            said("d", "six", Good),
        ];
        let verdicts = Verdicts::of(&feedback);
        let pairs: Vec<_> = verdicts
            .pairs()
            .into_iter()
            .map(|pair| {
                (
                    pair.prompt[0].content.clone(),
                    said_in(&pair.chosen),
                    said_in(&pair.rejected),
                )
            })
            .collect();
        let pair = |x: &str, y: &str, z: &str| (x.to_owned(), y.to_owned(), z.to_owned());
        assert_eq!(
            pairs,
            [pair("a", "three", "one"), pair("a", "three", "four")]
        );
        assert_eq!(
            verdicts.liked(),
            [Example::new("b", "two"), Example::new("d", "six")]
        );
        assert_eq!(verdicts.n_waiting(), 1);
        let edit = Feedback::edit(&[Message::user("e")], "this", "that");
        let pair = &Verdicts::of(&edit).pairs()[0];
        assert_eq!(
            (said_in(&pair.chosen), said_in(&pair.rejected)),
            ("that".to_owned(), "this".to_owned())
        );
    }
}
