//! The table: a row for each arm and setting.

use cope_llama::decode::Finish;
use cope_llama::estimate::Estimate;

use super::interval::{mean, share};
use super::loops::{distinct_4, is_loop};
use super::score::{says_all, says_any};
use super::setting::Setting;
use super::speakers::BenchAnswer;
use super::texts::{Item, TextKind};

/// The head of the table. Loops to log p are figures of the answers to everyday prompts and to those in the user's manner.
pub const HEAD: &str = "\
| arm | settings | answers | loops % | ended % | tokens | distinct-4 | log p | notes copied % | questions right % | s |
|---|---|---|---|---|---|---|---|---|---|---|
";

/// The figures of an answer.
pub struct Outcome {
    kind: TextKind,
    /// The number of the prompt.
    item: usize,
    pub is_loop: bool,
    has_ended: bool,
    n_tokens: usize,
    distinct_4: Option<f64>,
    logprob: f64,
    /// Whether the answer contains what the prompt wants; `None` where it wants nothing in particular.
    pub is_right: Option<bool>,
}

impl Outcome {
    pub fn new(item: &Item, answer: &BenchAnswer) -> Self {
        Self {
            kind: item.kind,
            item: answer.item,
            is_loop: is_loop(&answer.tokens, &answer.text, answer.finish),
            has_ended: answer.finish == Finish::EndOfTurn,
            n_tokens: answer.tokens.len(),
            distinct_4: distinct_4(&answer.text),
            logprob: answer.logprob,
            is_right: match item.kind {
                TextKind::Manner | TextKind::Everyday => None,
                TextKind::Notes => Some(says_all(&answer.text, &item.wanted)),
                TextKind::Questions => Some(says_any(&answer.text, &item.wanted)),
            },
        }
    }

    /// Whether the answer is free text, whose length and loops are measured.
    fn is_free(&self) -> bool {
        matches!(self.kind, TextKind::Manner | TextKind::Everyday)
    }
}

/// The row of an arm and a setting, whose answers took this many seconds together.
pub fn row(arm: &str, setting: &Setting, outcomes: &[Outcome], seconds: f64) -> String {
    let free: Vec<&Outcome> = outcomes.iter().filter(|it| it.is_free()).collect();
    let is_so = |is_so: fn(&Outcome) -> bool| {
        let answers: Vec<_> = free.iter().map(|it| (it.item, is_so(it))).collect();
        percent(share(&answers))
    };
    let right = |kind: TextKind| {
        let of_kind = outcomes.iter().filter(|it| it.kind == kind);
        let answers: Vec<_> = of_kind
            .filter_map(|it| Some((it.item, it.is_right?)))
            .collect();
        percent(share(&answers))
    };
    let average = |value: fn(&Outcome) -> Option<f64>, digits: usize| {
        let values: Vec<_> = free
            .iter()
            .filter_map(|it| Some((it.item, value(it)?)))
            .collect();
        plus_minus(mean(&values), digits)
    };
    format!(
        "| {arm} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {seconds:.0} |",
        setting.name(),
        outcomes.len(),
        is_so(|it| it.is_loop),
        is_so(|it| it.has_ended),
        average(|it| Some(it.n_tokens as f64), 0),
        average(|it| it.distinct_4, 2),
        average(|it| Some(it.logprob), 2),
        right(TextKind::Notes),
        right(TextKind::Questions),
    )
}

/// A share with its interval, in percent.
fn percent(estimate: Option<Estimate>) -> String {
    estimate.map_or("–".to_owned(), |it| {
        let [value, low, high] = [it.value, it.low, it.high].map(|it| 100.0 * it);
        format!("{value:.0} [{low:.0}, {high:.0}]")
    })
}

/// A mean with half of its interval.
fn plus_minus(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or("–".to_owned(), |it| {
        format!("{:.digits$} ± {:.digits$}", it.value, it.high - it.value)
    })
}
