//! Replay: the base's own answers to everyday prompts, which SFT learns beside the user's texts. The adapter then changes
//! how the model writes, and the model forgets less of what its base knows.
//!
//! Rehearsing texts that the model itself has generated is the method of Huang et al., "Mitigating Catastrophic Forgetting
//! in Large Language Models with Self-Synthesized Rehearsal" (arXiv 2403.01244).

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::TrainConfig;
use super::encoder::{Encoded, Encoder};
use super::hold_out::HoldOut;
use super::model::TrainModel;
use super::sample::{SampleConfig, SampleRequest, sample};
use super::train_event::{TrainEvent, TrainObserver};
use crate::home::NoCalibration;
use crate::llama::Token;
use crate::{Error, Result};

/// Replayed answers for each text of the user, unless the settings say otherwise.
pub const REPLAY: f32 = 0.5;

/// The most tokens of a replayed answer.
const ANSWER: usize = 48;

/// The tokens of a replayed prompt and its answer, for the estimate of memory.
pub(super) const ITEM: usize = 88;

/// The prompts, one a line; `models/README.md` describes the fields.
const PROMPTS: &str = include_str!("../../models/replay.jsonl");

/// A prompt to which the base's own answer is learnt.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayPrompt {
    /// The language, by its code of two letters.
    pub language: String,
    /// The prompt.
    pub prompt: String,
}

/// All prompts. The first ones are as mixed as all of them.
///
/// # Errors
/// The file in the tree is malformed.
pub fn prompts() -> Result<Vec<ReplayPrompt>> {
    let parse = |line| serde_json::from_str(line).map_err(Error::bug);
    PROMPTS.lines().map(parse).collect()
}

/// Number of replayed answers beside `n_texts` texts of the user. A training that an earlier version has done without
/// replay has none.
pub(super) fn n_items(config: &TrainConfig, hold_out: HoldOut, n_texts: usize) -> usize {
    let replay = match hold_out {
        HoldOut::Nothing(NoCalibration::OlderTraining) => 0.0,
        _ => config.replay.unwrap_or(REPLAY),
    };
    (replay * n_texts as f32).round() as usize
}

/// The value for the hash of SFT's inputs that stands for `n_items` replayed answers.
pub(super) fn inputs(n_items: usize) -> Value {
    json!({ "replay": n_items, "prompts": crate::digest::digest(&json!(PROMPTS)) })
}

/// `n_items` replayed answers: the likeliest tokens of the base, at most [`ANSWER`] for each prompt. If there are fewer
/// prompts, their answers come several times.
///
/// # Errors
/// The chat template refuses a prompt, a tensor operation failed, or the observer stopped the work.
pub(super) fn answers(
    model: &TrainModel,
    encoder: &Encoder,
    n_items: usize,
    is_eog: &(dyn Fn(Token) -> bool + Sync),
    observe: TrainObserver,
) -> Result<Vec<Encoded>> {
    let prompts = prompts()?;
    let asked = prompts.iter().take(n_items);
    let prompts = asked.map(|it| encoder.prompt(&it.prompt));
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    let requests = prompts.iter().enumerate();
    let requests = requests.map(|(number, prompt)| SampleRequest {
        number,
        prompt,
        response: &[],
        max_new_tokens: ANSWER,
    });
    let requests: Vec<_> = requests.collect();
    // The smallest set of tokens that reaches a probability of 0 has the likeliest one alone.
    let config = SampleConfig {
        n_samples: 1,
        temperature: 1.0,
        top_p: 0.0,
        seed: 0,
    };
    let total = requests.len();
    let mut ended = |done| observe(TrainEvent::Replay { done, total });
    ended(0)?;
    let sampled = sample(model, None, &requests, config, is_eog, &mut ended)?;
    let samples = sampled.into_iter().flat_map(|it| it.samples);
    let answers: Vec<_> = std::iter::zip(&prompts, samples)
        .map(|(prompt, sample)| Encoded {
            prompt: prompt.clone(),
            response: sample.tokens,
        })
        .collect();
    Ok(answers.into_iter().cycle().take(n_items).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::train::calibrate::everyday;

    #[test]
    fn the_prompts_are_no_questions_of_calibration_and_have_six_languages() {
        let prompts = prompts().unwrap();
        assert_eq!(prompts.len(), 48);
        let languages: BTreeSet<_> = prompts.iter().map(|it| it.language.as_str()).collect();
        assert_eq!(languages.len(), 6, "{languages:?}");
        let mut texts: BTreeSet<_> = prompts.iter().map(|it| it.prompt.clone()).collect();
        assert_eq!(texts.len(), prompts.len());
        for question in everyday::questions().unwrap() {
            assert!(texts.insert(question.prompt.clone()), "{}", question.prompt);
        }
    }

    #[test]
    fn every_other_text_has_a_replayed_answer_unless_the_settings_or_an_older_training_say_otherwise()
     {
        let config = |replay| TrainConfig {
            replay,
            ..TrainConfig::default()
        };
        let held_out = HoldOut::Texts(8);
        assert_eq!(n_items(&config(None), held_out, 91), 46);
        assert_eq!(n_items(&config(Some(0.0)), held_out, 91), 0);
        assert_eq!(n_items(&config(Some(2.0)), held_out, 10), 20);
        let older = HoldOut::Nothing(NoCalibration::OlderTraining);
        assert_eq!(n_items(&config(None), older, 91), 0);
    }
}
