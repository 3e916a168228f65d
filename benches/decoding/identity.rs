//! Every schedule gives the tokens of the naive one, except where a choice is closer than llama.cpp's rounding.

use anyhow::Result;
use cope_llama::decode::{
    Candidate, Contrast, PassSchedule, Processor, Sampler, Sampling, contrast,
};
use cope_llama::llama::{Rows, Token, Twin};

use crate::Options;
use crate::adapters::{Queries, Subject, subjects};
use crate::speed::options_of;

/// Counts over a model's answers.
#[derive(Clone, Copy, Default)]
struct Count {
    answers: usize,
    tokens: usize,
    same: usize,
    /// Answers that differ first at a choice that changing the scores by ε can change.
    close: usize,
    /// Answers that differ first at another choice. There should be none.
    other: usize,
}

pub fn table(options: &Options, n: usize) -> Result<()> {
    println!(
        "| model | sampling | schedule | answers | tokens | ε | the same | part within ε | part elsewhere |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let drawn = Sampling {
        temperature: 0.8,
        ..Sampling::default()
    };
    let samplings = [("greedy", Sampling::default()), ("drawn", drawn)];
    for path in options.models()? {
        let mut subjects = subjects(options, &path, Queries::AllUsers)?;
        let epsilon = epsilon(&mut subjects)?;
        let mut counts = [[Count::default(), Count::default()]; 2];
        let per_task = n.div_ceil(subjects.len());
        for subject in &mut subjects {
            let prompts = subject.prompts.iter().skip(options.skip);
            let prompts: Vec<_> = prompts.take(per_task).cloned().collect();
            for prompt in prompts {
                // Reads the prompt once, so that all answers start with the same caches.
                subject.answer(&prompt, &options_of(PassSchedule::NAIVE, 1))?;
                for ((_, sampling), counts) in samplings.iter().zip(&mut counts) {
                    compare(options, subject, &prompt, *sampling, epsilon, counts)?;
                }
            }
        }
        for ((name, _), counts) in samplings.iter().zip(&counts) {
            for (count, schedule) in counts.iter().zip(["the CPU's", "the GPU's"]) {
                println!(
                    "| {} | {name} | {schedule} | {} | {} | {epsilon:.4} | {} | {} | {} |",
                    path.file_stem().unwrap_or_default().to_string_lossy(),
                    count.answers,
                    count.tokens,
                    count.same,
                    count.close,
                    count.other,
                );
            }
        }
    }
    Ok(())
}

/// Answers `prompt` by the naive loop and by each schedule.
fn compare(
    options: &Options,
    subject: &mut Subject,
    prompt: &[Token],
    sampling: Sampling,
    epsilon: f32,
    counts: &mut [Count; 2],
) -> Result<()> {
    let mut run = |schedule| -> Result<Vec<Token>> {
        let mut options = options_of(schedule, options.predict);
        options.answer.sampling = sampling;
        Ok(subject.answer_again(prompt, &options)?.0)
    };
    let naive = run(PassSchedule::NAIVE)?;
    let schedules = [
        PassSchedule::fastest(Processor::Cpu { n_threads: 2 }),
        PassSchedule::fastest(Processor::Gpu),
    ];
    let answers = [run(schedules[0])?, run(schedules[1])?];
    for (answer, count) in answers.iter().zip(counts) {
        count.answers += 1;
        count.tokens += answer.len();
        let shared = std::iter::zip(answer, &naive)
            .take_while(|(x, y)| x == y)
            .count();
        if answer == &naive {
            count.same += 1;
        } else if is_close(subject, prompt, &naive[..shared], sampling, epsilon)? {
            count.close += 1;
        } else {
            count.other += 1;
        }
    }
    Ok(())
}

/// Whether the choice after `text` could be another if each score were wrong by `epsilon`.
fn is_close(
    subject: &mut Subject,
    prompt: &[Token],
    text: &[Token],
    sampling: Sampling,
    epsilon: f32,
) -> Result<bool> {
    let Twin { base, user } = &mut subject.twin;
    for context in [&mut *base, &mut *user] {
        context.truncate(0);
        context.extend(prompt, 1, Rows::Full)?;
        for &token in text {
            context.extend(&[token], 1, Rows::Full)?;
        }
    }
    let contrast = Contrast::default();
    let edge = contrast.plausibility().ln();
    let best = user
        .logits()
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    if user
        .logits()
        .iter()
        .any(|&logit| (logit - best - edge).abs() <= epsilon)
    {
        return Ok(true);
    }
    let (mut candidates, mut opinions) = (Vec::new(), Vec::new());
    contrast.score(user.logits(), base.logits(), &mut candidates, &mut opinions)?;
    let mut sampler = sampling.sampler(user.logits().len(), user.n_ctx())?;
    let position = prompt.len() + text.len();
    let mut choose = |candidates: &[Candidate]| Sampler::choose(&mut sampler, candidates, position);
    let chosen = choose(&candidates);
    // A draw moves most if all tokens before a candidate get likelier and all tokens after it less likely, or the other way
    // round; the best token changes if it is lowered and another raised.
    Ok((0..candidates.len()).any(|pivot| {
        let moved = |up: &dyn Fn(usize) -> bool| {
            let moved = candidates.iter().enumerate().map(|(index, it)| Candidate {
                score: it.score + if up(index) { epsilon } else { -epsilon },
                ..*it
            });
            moved.collect::<Vec<_>>()
        };
        let changes = [
            moved(&|index| index <= pivot),
            moved(&|index| index > pivot),
            moved(&|index| index == pivot),
        ];
        changes
            .iter()
            .any(|candidates| choose(candidates) != chosen)
    }))
}

/// The largest difference of a candidate's score, relative to the highest, between passes over single tokens that compute
/// all logits and passes over eight tokens that compute those of the candidates.
fn epsilon(subjects: &mut [Subject]) -> Result<f32> {
    let mut largest = 0.0_f32;
    for subject in subjects {
        let prompts: Vec<_> = subject.prompts.iter().take(4).cloned().collect();
        for prompt in prompts {
            let (text, _) = subject.answer(&prompt, &options_of(PassSchedule::NAIVE, 48))?;
            let single = heads(&mut subject.twin, &prompt, &text, 1)?;
            let batched = heads(&mut subject.twin, &prompt, &text, 8)?;
            for (one, other) in single.iter().zip(&batched) {
                largest = largest.max(difference(one, other));
            }
        }
    }
    Ok(largest)
}

/// `V_head` with its scores after each token of `text`, read in passes of `step` tokens.
fn heads(
    twin: &mut Twin,
    prompt: &[Token],
    text: &[Token],
    step: usize,
) -> Result<Vec<Vec<Candidate>>> {
    let contrast = Contrast::default();
    let Twin { base, user } = twin;
    let base_rows = if step > 1 {
        Rows::Candidates
    } else {
        Rows::Full
    };
    for context in [&mut *base, &mut *user] {
        context.truncate(0);
        context.extend(prompt, 1, Rows::Full)?;
    }
    let (mut heads, mut opinions) = (Vec::new(), Vec::new());
    for tokens in text.chunks(step) {
        base.extend(tokens, tokens.len(), base_rows)?;
        user.extend(tokens, tokens.len(), Rows::Full)?;
        for len in user.rows() {
            let mut head = Vec::new();
            contrast::head(user.logits_after(len), contrast.plausibility(), &mut head)?;
            base.logits_of(len, &head, &mut opinions)?;
            contrast.apply(&mut head, &opinions);
            heads.push(head);
        }
    }
    Ok(heads)
}

/// The largest difference of a score, relative to the highest in `one`, over the tokens that are in both.
fn difference(one: &[Candidate], other: &[Candidate]) -> f32 {
    let of = |head: &[Candidate], token| {
        let found = head.iter().find(|it| it.token == token);
        found.map(|it| it.score)
    };
    let highest = one
        .iter()
        .reduce(|x, y| if y.score > x.score { y } else { x });
    let Some(highest) = highest else { return 0.0 };
    let Some(highest_of_other) = of(other, highest.token) else {
        return 0.0;
    };
    let relative = |it: &Candidate| {
        let score = of(other, it.token)?;
        Some(((it.score - highest.score) - (score - highest_of_other)).abs())
    };
    one.iter().filter_map(relative).fold(0.0, f32::max)
}
