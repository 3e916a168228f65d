//! Many answers at once: tokens per second by the number of sequences.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use cope_llama::decode::{Batch, BatchEvent, Contrast, PassSchedule, Policy, TextRequest};
use cope_llama::llama::{ContextOptions, Sequences};

use crate::Options;
use crate::adapters::{Queries, Subject, subjects};
use crate::speed::options_of;

const SEQUENCES: [usize; 5] = [1, 2, 4, 8, 16];

/// Room for the tokens of a prompt and an answer.
const N_CTX: u32 = 512;

pub fn table(options: &Options) -> Result<()> {
    println!("| model | sequences | tokens a second, prompts included | ÷ one after the other |");
    println!("|---|---|---|---|");
    for path in options.models()? {
        let mut subjects = subjects(options, &path, Queries::AllUsers)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut alone = Rate::default();
        for subject in &mut subjects {
            one_by_one(options, subject, &mut alone)?;
        }
        println!(
            "| {name} | one after the other | {:.0} | |",
            alone.per_second()
        );
        for n_sequences in SEQUENCES {
            let mut rate = Rate::default();
            for subject in &subjects {
                together(options, subject, n_sequences, &mut rate)?;
            }
            println!(
                "| {name} | {n_sequences} | {:.0} | {:.2} |",
                rate.per_second(),
                rate.per_second() / alone.per_second()
            );
        }
    }
    println!();
    Ok(())
}

#[derive(Default)]
struct Rate {
    n_tokens: usize,
    seconds: f64,
}

impl Rate {
    fn per_second(&self) -> f64 {
        self.n_tokens as f64 / self.seconds
    }
}

/// The first queries of a task, as many as the largest number of sequences.
fn prompts(options: &Options, subject: &Subject) -> Vec<Vec<cope_llama::llama::Token>> {
    let room = N_CTX as usize - options.predict;
    let prompts = subject.prompts.iter().filter(|prompt| prompt.len() < room);
    prompts
        .take(SEQUENCES[SEQUENCES.len() - 1])
        .cloned()
        .collect()
}

fn one_by_one(options: &Options, subject: &mut Subject, rate: &mut Rate) -> Result<()> {
    for prompt in prompts(options, subject) {
        let started = Instant::now();
        let decode_options = options_of(PassSchedule::default(), options.predict);
        let (answer, _) = subject.answer(&prompt, &decode_options)?;
        rate.n_tokens += answer.len();
        rate.seconds += started.elapsed().as_secs_f64();
    }
    Ok(())
}

fn together(
    options: &Options,
    subject: &Subject,
    n_sequences: usize,
    rate: &mut Rate,
) -> Result<()> {
    let context_options = ContextOptions {
        n_ctx: N_CTX,
        ..ContextOptions::default()
    };
    let adapter = Some((Arc::clone(&subject.adapter), 1.0));
    let model = &subject.model;
    let schedule = PassSchedule::default();
    let mut batch = Batch::new(Arc::clone(model), schedule, usize::MAX);
    let policy = Policy::Cope {
        base: batch.add(Sequences::new(model, None, &context_options, n_sequences)?),
        user: batch.add(Sequences::new(
            model,
            adapter,
            &context_options,
            n_sequences,
        )?),
        contrast: Contrast::default(),
    };
    for prompt in prompts(options, subject) {
        batch.push(TextRequest {
            prompt,
            base_prompt: None,
            policy,
            options: options_of(schedule, options.predict).answer,
            explained: None,
            explains_prompt: false,
            owner: None,
        })?;
    }
    let started = Instant::now();
    for event in batch {
        match event?.1 {
            BatchEvent::Finished { response, .. } => rate.n_tokens += response.len(),
            BatchEvent::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    rate.seconds += started.elapsed().as_secs_f64();
    Ok(())
}
