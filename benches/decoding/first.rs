//! The time to the first token of CoPe beside that of the user model alone: of prompts of which nothing was read before,
//! and of the next turn of a chat whose turns before were read.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use cope_llama::decode::{Arm, Contrast, Decoder, PassSchedule};
use cope_llama::llama::{Context, ContextOptions, Model, Rows, Token, Twin};
use cope_llama::message::Message;
use cope_llama::prompt::{ChatTemplate, response_tokens};

use crate::speed::options_of;
use crate::{Options, prompt_texts, random_twin};

/// The words of the answer in a chat, and of the message after it.
const N_ANSWER: usize = 24;
const N_MESSAGE: usize = 12;

/// A prompt, and how many of its tokens both models have read before.
struct FirstPrompt {
    tokens: Vec<Token>,
    n_read: usize,
}

/// A model with the contexts of base and user.
struct Reader {
    model: Arc<Model>,
    twin: Twin,
}

pub fn table(options: &Options) -> Result<()> {
    println!(
        "| model | prompt, tokens | of them read before | user model alone, ms | CoPe, ms | CoPe ÷ user model alone: median (least to most) |"
    );
    println!("|---|---|---|---|---|---|");
    let words = prompt_texts::words(&options.data)?;
    for path in options.models()? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut reader = Reader::open(&path)?;
        for prompt in prompts(&reader.model, &words, &options.prompt_tokens)? {
            let times = reader.times(&prompt, options.repeats)?;
            let row = |of: fn(&[f64; 2]) -> f64| sorted(times.iter().map(of));
            let ratios = row(|[user, cope]| cope / user);
            println!(
                "| {name} | {} | {} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) |",
                prompt.tokens.len(),
                prompt.n_read,
                median(&row(|it| it[0])),
                median(&row(|it| it[1])),
                median(&ratios),
                ratios[0],
                ratios[ratios.len() - 1]
            );
        }
    }
    println!();
    Ok(())
}

/// A prompt of each length that nothing was read of, and after each a chat that goes on from it.
fn prompts(model: &Model, words: &[String], lengths: &[usize]) -> Result<Vec<FirstPrompt>> {
    let template = ChatTemplate::of_model(model)?;
    let tokens = |messages: &[Message]| Ok(template.prompt_tokens(model, messages)?);
    let mut prompts = Vec::new();
    for &n in lengths {
        let len = |text: &str| tokens(&[Message::user(text)]).map(|it: Vec<Token>| it.len());
        let question = Message::user(prompt_texts::text(words, n, len)?);
        let first = tokens(std::slice::from_ref(&question))?;
        let answer = words[..N_ANSWER].join(" ");
        // The token that ends an answer is chosen and not read.
        let mut read = [first.clone(), response_tokens(model, &answer)?].concat();
        read.pop();
        let message = words[N_ANSWER..][..N_MESSAGE].join(" ");
        let chat = [question, Message::assistant(answer), Message::user(message)];
        let second = tokens(&chat)?;
        let same = std::iter::zip(&read, &second).take_while(|(x, y)| x == y);
        let n_read = same.count();
        prompts.push((first, 0));
        prompts.push((second, n_read));
    }
    let prompts = prompts.into_iter();
    Ok(prompts
        .map(|(tokens, n_read)| FirstPrompt { tokens, n_read })
        .collect())
}

impl Reader {
    fn open(path: &Path) -> Result<Self> {
        let (model, twin) = random_twin::open(path, &ContextOptions::default())?;
        let mut reader = Self { model, twin };
        // The first pass of a context sizes its buffers, and shows whether it can leave the head out.
        let tokens = (100..140).collect();
        reader.times(&FirstPrompt { tokens, n_read: 0 }, 2)?;
        Ok(reader)
    }

    /// The milliseconds to the first token of the user model alone and of CoPe, in each of some repetitions.
    fn times(&mut self, prompt: &FirstPrompt, repeats: usize) -> Result<Vec<[f64; 2]>> {
        let cope = Arm::Cope(Contrast::default());
        let time = |repeat| {
            // Neither always comes second.
            if repeat % 2 == 0 {
                let user = self.time(prompt, Arm::User)?;
                Ok([user, self.time(prompt, cope)?])
            } else {
                let cope = self.time(prompt, cope)?;
                Ok([self.time(prompt, Arm::User)?, cope])
            }
        };
        (0..repeats).map(time).collect()
    }

    /// The milliseconds to the first token by `arm`.
    fn time(&mut self, prompt: &FirstPrompt, arm: Arm) -> Result<f64> {
        for context in [&mut self.twin.base, &mut self.twin.user] {
            prepare(context, prompt)?;
        }
        // Where one token is plausible the base need not read. Times shall not depend on that.
        let schedule = PassSchedule {
            lazy: false,
            ..PassSchedule::default()
        };
        let options = options_of(schedule, 1);
        let started = Instant::now();
        let policy = self.twin.policy(arm);
        let mut decoder = Decoder::new(policy, &*self.model, &prompt.tokens, options)?;
        decoder.try_for_each(|piece| piece.map(drop))?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }
}

/// Brings `context` to where the prompt goes on.
fn prepare(context: &mut Context, prompt: &FirstPrompt) -> Result<()> {
    let read = &prompt.tokens[..prompt.n_read];
    let same = std::iter::zip(context.tokens(), read).take_while(|(x, y)| x == y);
    let n_same = same.count();
    context.truncate(n_same);
    if n_same < read.len() {
        context.extend(&read[n_same..], 1, Rows::Full)?;
    }
    Ok(())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
