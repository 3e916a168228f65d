//! A user's feedback on answers, and the pairs that DPO learns from it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Example, Masked, Masking, Pair};
use crate::message::Message;

/// A verdict of the user on one answer, which is a line of `feedback.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// The messages before the answer.
    pub prompt: Vec<Message>,
    /// The answer, or the user's correction of it.
    pub response: String,
    /// The user's verdict on the response.
    pub verdict: Verdict,
}

/// Whether the user would write an answer like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The user would.
    Good,
    /// The user would not.
    Bad,
}

impl Feedback {
    /// The same verdict with the secrets in its texts masked, as those of an import are.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mut masked = self.clone();
        let messages = masked.prompt.iter_mut().map(|message| &mut message.content);
        let texts = messages.chain([&mut masked.response]);
        Masking::default().mask(texts, &mut Masked::new());
        masked
    }

    /// The two verdicts of a correction: the answer is bad, the edited text is good.
    #[must_use]
    pub fn edit(prompt: &[Message], answer: &str, edited: &str) -> [Self; 2] {
        [(answer, Verdict::Bad), (edited, Verdict::Good)].map(|(response, verdict)| Self {
            prompt: prompt.to_vec(),
            response: response.to_owned(),
            verdict,
        })
    }
}

/// All verdicts, grouped by prompt. When there are several verdicts on one answer, the last counts.
#[derive(Debug, Default)]
pub struct Verdicts {
    by_prompt: Vec<PromptVerdicts>,
}

#[derive(Debug)]
/// The good and bad answers to one prompt.
struct PromptVerdicts {
    prompt: Vec<Message>,
    good: Vec<String>,
    bad: Vec<String>,
}

impl Verdicts {
    /// Groups `feedback`, which is in the order of time.
    #[must_use]
    pub fn from_feedback(feedback: &[Feedback]) -> Self {
        let mut verdicts = Self::default();
        let mut places: HashMap<&[Message], usize> = HashMap::new();
        for Feedback {
            prompt,
            response,
            verdict,
        } in feedback
        {
            let place = *places.entry(prompt).or_insert_with(|| {
                verdicts.by_prompt.push(PromptVerdicts {
                    prompt: prompt.clone(),
                    good: Vec::new(),
                    bad: Vec::new(),
                });
                verdicts.by_prompt.len() - 1
            });
            let PromptVerdicts { good, bad, .. } = &mut verdicts.by_prompt[place];
            for answers in [&mut *good, &mut *bad] {
                answers.retain(|answer| answer != response);
            }
            match verdict {
                Verdict::Good => good.push(response.clone()),
                Verdict::Bad => bad.push(response.clone()),
            }
        }
        verdicts
    }

    /// Pairs every good answer with every bad answer to the same prompt.
    #[must_use]
    pub fn pairs(&self) -> Vec<Pair> {
        let pairs = |verdicts: &PromptVerdicts| {
            let both = verdicts.good.iter().flat_map(|good| {
                let bad = verdicts.bad.iter();
                bad.map(move |bad| (good.clone(), bad.clone()))
            });
            both.filter_map(|(good, bad)| Pair::new(&verdicts.prompt, good, bad, true))
                .collect::<Vec<_>>()
        };
        self.by_prompt.iter().flat_map(pairs).collect()
    }

    /// The good answers to prompts without a bad answer. Mining looks for a negative to pair them with.
    #[must_use]
    pub fn liked(&self) -> Vec<Example> {
        let unpaired = self.by_prompt.iter().filter(|it| it.bad.is_empty());
        let examples = unpaired.flat_map(|verdicts| {
            verdicts.good.iter().map(|response| Example {
                prompt: verdicts.prompt.clone(),
                response: response.clone(),
            })
        });
        examples.collect()
    }

    /// The number of bad answers to prompts without a good answer: DPO cannot learn from them yet.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        let unpaired = self.by_prompt.iter().filter(|it| it.good.is_empty());
        unpaired.map(|verdicts| verdicts.bad.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(prompt: &str, response: &str, verdict: Verdict) -> Feedback {
        Feedback {
            prompt: vec![Message::user(prompt)],
            response: response.to_owned(),
            verdict,
        }
    }

    fn text(side: &[Message]) -> String {
        side[0].content.clone()
    }

    #[test]
    fn good_answers_are_paired_with_bad_answers_to_the_same_prompt() {
        use Verdict::{Bad, Good};
        let feedback = [
            verdict("a", "one", Bad),
            verdict("b", "two", Good),
            verdict("a", "three", Good),
            verdict("a", "four", Bad),
            verdict("c", "five", Bad),
            // The user changes their mind.
            verdict("d", "six", Bad),
            verdict("d", "six", Good),
        ];
        let verdicts = Verdicts::from_feedback(&feedback);
        let pairs: Vec<_> = verdicts
            .pairs()
            .into_iter()
            .map(|pair| {
                (
                    pair.prompt[0].content.clone(),
                    text(&pair.chosen),
                    text(&pair.rejected),
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
        let pair = &Verdicts::from_feedback(&edit).pairs()[0];
        assert_eq!(
            (text(&pair.chosen), text(&pair.rejected)),
            ("that".to_owned(), "this".to_owned())
        );
    }
}
