//! A few short answers of the base by every setting, with checks of what must hold for any model.

use std::collections::HashSet;

use anyhow::{Result, ensure};

use super::Options;
use super::setting::Setting;
use super::speakers::{BenchAnswer, BenchArm, Speakers};
use super::texts::{self, Item};

/// The number of prompts of each file.
const N_ITEMS: usize = 1;

/// The most tokens of an answer.
const N_PREDICT: usize = 12;

pub fn run(options: &Options, speakers: &Speakers) -> Result<()> {
    let items = texts::items(&options.kinds, &options.splits, Some(N_ITEMS))?;
    let short = Options {
        n_predict: N_PREDICT,
        seeds: 1,
        // One thread never waits for another, so that other programs cannot make seconds minutes.
        threads: options.threads.or(Some(1)),
        base: None,
        users: Vec::new(),
        arms: Vec::new(),
        settings: Vec::new(),
        splits: Vec::new(),
        kinds: Vec::new(),
        save: None,
        ..*options
    };
    for setting in &options.settings {
        let answers = speakers.answer(&short, &BenchArm::Base, setting, &items)?;
        ensure!(answers.len() == items.len(), "an answer is missing");
        for answer in &answers {
            check(setting, &items[answer.item], answer)?;
        }
        println!("{}: {} answers", setting.name(), answers.len());
    }
    Ok(())
}

/// Checks what holds for the answers of any model.
fn check(setting: &Setting, item: &Item, answer: &BenchAnswer) -> Result<()> {
    let (name, prompt) = (setting.name(), &item.prompt);
    let n_tokens = answer.tokens.len();
    ensure!(n_tokens <= N_PREDICT, "{name}: {prompt}: {n_tokens} tokens");
    let logprob = answer.logprob;
    ensure!(logprob <= 0.0, "{name}: {prompt}: log p is {logprob}");
    let n = setting.no_repeat_ngram();
    if n > 0 {
        let grams = answer.tokens.windows(n);
        let n_distinct = grams.clone().collect::<HashSet<_>>().len();
        ensure!(
            n_distinct == grams.len(),
            "{name}: {prompt}: an n-gram repeats"
        );
    }
    Ok(())
}
