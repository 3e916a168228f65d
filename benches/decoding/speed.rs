//! Time per token, prompt included.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use cope_llama::decode::{AnswerOptions, DecoderOptions, PassSchedule, Statistics, contrast};
use cope_llama::llama::{Context, Rows, Token};

use crate::Options;
use crate::adapters::{Queries, Subject, subjects};

/// The time of all queries of a task.
#[derive(Default, Clone)]
struct Cost {
    n_tokens: usize,
    first: Duration,
    whole: Duration,
}

/// The schedules that are measured, the naive one first.
fn schedules(parts: bool) -> Vec<(&'static str, PassSchedule)> {
    let ours = PassSchedule::default();
    if !parts {
        return vec![("naive", PassSchedule::NAIVE), ("ours", ours)];
    }
    let naive = PassSchedule::NAIVE;
    let (lean, lazy) = (
        PassSchedule {
            lean: true,
            ..naive
        },
        PassSchedule {
            lazy: true,
            ..naive
        },
    );
    let beside = PassSchedule {
        side_by_side: true,
        ..naive
    };
    let ahead = PassSchedule {
        speculate: PassSchedule::AHEAD,
        lazy: true,
        lean: true,
        ..naive
    };
    vec![
        ("naive", naive),
        ("lean", lean),
        ("lazy", lazy),
        ("lean, lazy", PassSchedule { lean: true, ..lazy }),
        ("lean, lazy, speculate", ahead),
        (
            "lean, lazy, speculate, draft",
            PassSchedule {
                draft: PassSchedule::AHEAD,
                ..ahead
            },
        ),
        ("side by side", beside),
        (
            "side by side, lean",
            PassSchedule {
                lean: true,
                ..beside
            },
        ),
        (
            "side by side, lean, lazy",
            PassSchedule {
                lean: true,
                lazy: true,
                ..beside
            },
        ),
        ("side by side, lean, lazy, draft", ours),
    ]
}

pub fn table(options: &Options, parts: bool) -> Result<()> {
    let schedules = schedules(parts);
    println!(
        "| model | task | prompt, tokens | answer, tokens | plain, ms a token (all threads; half) | schedule | ÷ plain | naive ÷ it | first token ÷ plain's | of the choices undecided |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut ratios = vec![Vec::new(); schedules.len()];
    for path in options.models()? {
        for mut subject in subjects(options, &path, Queries::Own)? {
            let measured = measure(options, &mut subject, &schedules)?;
            for (ratios, ratio) in ratios.iter_mut().zip(rows(&path, &subject, &measured)) {
                ratios.push(ratio);
            }
        }
    }
    println!("\nMean over models and tasks, ÷ plain:");
    for ((name, _), ratios) in schedules.iter().zip(&ratios) {
        println!(
            "- {name}: {:.2}",
            ratios.iter().sum::<f64>() / ratios.len() as f64
        );
    }
    println!();
    Ok(())
}

struct Measured<'a> {
    n_queries: usize,
    n_prompt: usize,
    /// Plain decoding with all threads, and with half of them for single tokens, since with a small model threads wait for
    /// each other.
    plain: [Cost; 2],
    schedules: Vec<(&'a str, Cost, Statistics)>,
}

/// Measures all schedules on each query, one after the other, starting with empty caches.
fn measure<'a>(
    options: &Options,
    subject: &mut Subject,
    schedules: &[(&'a str, PassSchedule)],
) -> Result<Measured<'a>> {
    let zero = |&(name, _): &(&'a str, _)| (name, Cost::default(), Statistics::default());
    let mut measured = Measured {
        n_queries: 0,
        n_prompt: 0,
        plain: Default::default(),
        schedules: schedules.iter().map(zero).collect(),
    };
    let prompts: Vec<_> = subject
        .prompts
        .iter()
        .take(options.queries)
        .cloned()
        .collect();
    // The first pass of a context sizes its buffers.
    subject.answer(&prompts[0], &options_of(PassSchedule::NAIVE, 2))?;
    for prompt in &prompts {
        measured.n_queries += 1;
        measured.n_prompt += prompt.len();
        let mut text = Vec::new();
        for ((_, schedule), (_, cost, sum)) in schedules.iter().zip(&mut measured.schedules) {
            let started = Instant::now();
            let (answer, statistics) =
                subject.answer(prompt, &options_of(*schedule, options.predict))?;
            cost.whole += started.elapsed();
            cost.first += statistics.prompt_time;
            cost.n_tokens += statistics.n_chosen;
            sum.n_undecided += statistics.n_undecided;
            sum.n_chosen += statistics.n_chosen;
            text = answer;
        }
        for (shares, cost) in (1..).zip(&mut measured.plain) {
            plain(&mut subject.twin.user, prompt, &text, shares, cost)?;
        }
    }
    Ok(measured)
}

/// Options of a greedy answer by a schedule.
pub fn options_of(schedule: PassSchedule, n_predict: usize) -> DecoderOptions {
    let answer = AnswerOptions {
        n_predict: Some(n_predict),
        ..AnswerOptions::default()
    };
    DecoderOptions {
        schedule,
        ..answer.into()
    }
}

/// The time of a loop over one context that reads the prompt and the tokens of an answer, choosing a token after each; single
/// tokens are read with the `shares`th part of the threads.
fn plain(
    context: &mut Context,
    prompt: &[Token],
    text: &[Token],
    shares: usize,
    cost: &mut Cost,
) -> Result<()> {
    let started = Instant::now();
    let mut best = Vec::new();
    context.share_threads(1);
    context.truncate(0);
    context.extend(prompt, 1, Rows::Full)?;
    contrast::head(context.logits(), 1.0, &mut best)?;
    cost.first += started.elapsed();
    context.share_threads(shares);
    for &token in text {
        context.extend(&[token], 1, Rows::Full)?;
        contrast::head(context.logits(), 1.0, &mut best)?;
    }
    cost.n_tokens += 1 + text.len();
    cost.whole += started.elapsed();
    Ok(())
}

/// Prints a task's rows. Returns the time of each schedule relative to plain decoding.
fn rows(path: &Path, subject: &Subject, measured: &Measured<'_>) -> Vec<f64> {
    let per_token = |cost: &Cost| cost.whole.as_secs_f64() / cost.n_tokens as f64;
    let [all, half] = &measured.plain;
    let best = if half.whole < all.whole { half } else { all };
    let plain = per_token(best);
    let naive = per_token(&measured.schedules[0].1);
    let model = path.file_stem().unwrap_or_default().to_string_lossy();
    let row = |(name, cost, statistics): &(&str, Cost, Statistics)| {
        let ratio = per_token(cost) / plain;
        println!(
            "| {model} | {} | {} | {} | {:.2}; {:.2} | {name} | {ratio:.2} | {:.2} | {:.2} | {:.0} % |",
            subject.task,
            measured.n_prompt / measured.n_queries,
            cost.n_tokens / measured.n_queries,
            per_token(all) * 1e3,
            per_token(half) * 1e3,
            naive / per_token(cost),
            cost.first.as_secs_f64() / best.first.as_secs_f64(),
            1e2 * statistics.n_undecided as f64 / statistics.n_chosen as f64,
        );
        ratio
    };
    measured.schedules.iter().map(row).collect()
}
