//! Options of the commands that decode. They have llama.cpp's names where llama.cpp has such an option.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum, value_parser};
use cope_llama::decode::{AnswerOptions, DecoderOptions, PassSchedule, Processor, Sampling};
use cope_llama::llama::{Grammar, Model, Token};

use super::options::ModelArgs;

/// How tokens are chosen, and when an answer ends.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub struct DecodeArgs {
    /// Maximum number of tokens of an answer; -1 for no limit
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 512,
        allow_negative_numbers = true,
        value_parser = value_parser!(i64).range(-1..)
    )]
    predict: i64,
    /// Temperature: 0 always takes the best token (greedy decoding); higher values make the draws more random
    #[arg(long, value_name = "X", default_value_t = AnswerOptions::recommended().sampling.temperature)]
    pub temp: f32,
    /// Top-k sampling: draw among the N most probable tokens; 0 turns it off
    #[arg(long, value_name = "N", default_value_t = AnswerOptions::recommended().sampling.top_k)]
    top_k: u32,
    /// Nucleus sampling: draw among the most probable tokens whose probabilities sum to X; 1 turns it off
    #[arg(long, value_name = "X", default_value_t = AnswerOptions::recommended().sampling.top_p)]
    top_p: f32,
    /// Min-p sampling: draw among tokens at least X times as probable as the best one; 0 turns it off
    #[arg(long, value_name = "X", default_value_t = AnswerOptions::recommended().sampling.min_p)]
    min_p: f32,
    /// Locally typical sampling: draw among the tokens whose information is nearest to the entropy, until their
    /// probabilities sum to X; 1 turns it off
    #[arg(long, value_name = "X", default_value_t = AnswerOptions::recommended().sampling.typical)]
    typical: f32,
    /// Factor that makes recent tokens less likely; 1 turns it off
    #[arg(long, value_name = "X", default_value_t = AnswerOptions::recommended().sampling.repeat_penalty)]
    repeat_penalty: f32,
    /// Number of recent tokens that the penalties apply to
    #[arg(long, value_name = "N", default_value_t = AnswerOptions::recommended().sampling.repeat_last_n)]
    repeat_last_n: u32,
    /// Subtracted once from the logit of each recent token
    #[arg(long, value_name = "X", default_value_t = AnswerOptions::recommended().sampling.presence_penalty)]
    presence_penalty: f32,
    /// Subtracted from the logit of a recent token for each of its occurrences
    #[arg(long, value_name = "X", default_value_t = AnswerOptions::recommended().sampling.frequency_penalty)]
    frequency_penalty: f32,
    /// Seed of the random draws: equal seeds give equal texts [default: a new one, which is printed]
    #[arg(short, long, value_name = "N")]
    pub seed: Option<u32>,
    /// Stop string: the answer ends before it; may be repeated
    #[arg(short = 'r', long = "stop", value_name = "TEXT")]
    stop: Vec<String>,
    /// Whether an answer ends when it repeats the same passage for the third time [default: true, false with a grammar or
    /// a JSON schema]
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    loop_guard: Option<bool>,
    /// Let no sequence of N tokens occur twice in an answer, which prevents loops; 0 turns it off [default: 8, 0 with a
    /// grammar or a JSON schema]
    #[arg(long, value_name = "N")]
    no_repeat_ngram: Option<usize>,
    /// Bias to add to the user model's logit of a token, given by its number: 15043+2.5, or 15043-inf to ban the token;
    /// may be repeated
    #[arg(short, long, value_name = "TOKEN±X", value_parser = parse_logit_bias)]
    logit_bias: Vec<(Token, f32)>,
    /// Restrict the answer to this grammar, in GBNF
    #[arg(long, value_name = "GBNF", group = "form")]
    grammar: Option<String>,
    /// Restrict the answer to the GBNF grammar in this file
    #[arg(long, value_name = "FILE", group = "form")]
    grammar_file: Option<PathBuf>,
    /// Restrict the answer to JSON of this schema
    #[arg(short, long, value_name = "SCHEMA", group = "form")]
    json_schema: Option<String>,
    /// Restrict the answer to JSON of the schema in this file
    #[arg(long, value_name = "FILE", group = "form")]
    json_schema_file: Option<PathBuf>,
    /// Optimisations of the passes, separated by commas; they save time and do not change the answer. side-by-side: base
    /// and user model run at the same time; lean: the base computes the logits of plausible tokens only; lazy: the base
    /// runs only when more than one token is plausible; speculate: the user model runs ahead of the base; draft: both
    /// models check tokens copied from earlier text; none: plain passes [default: the fastest on this CPU or GPU]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    schedule: Option<Vec<SchedulePart>>,
    /// Print the number of passes, their time and the tokens per second
    #[arg(long)]
    pub timings: bool,
}

/// A part of a [`PassSchedule`].
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SchedulePart {
    None,
    SideBySide,
    Lean,
    Lazy,
    Speculate,
    Draft,
}

impl DecodeArgs {
    /// The options for an answer by `model`, which was loaded with `args`.
    pub fn options(&self, args: &ModelArgs, model: &Arc<Model>) -> Result<DecoderOptions> {
        let form = AnswerOptions::recommended().with_form(self.grammar(model)?);
        let answer = AnswerOptions {
            sampling: Sampling {
                temperature: self.temp,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                typical: self.typical,
                repeat_penalty: self.repeat_penalty,
                repeat_last_n: self.repeat_last_n,
                presence_penalty: self.presence_penalty,
                frequency_penalty: self.frequency_penalty,
                seed: self.seed.unwrap_or_else(Sampling::new_seed),
            },
            n_predict: usize::try_from(self.predict).ok(),
            stop: self.stop.clone(),
            loop_guard: self.loop_guard.unwrap_or(form.loop_guard),
            no_repeat_ngram: self.no_repeat_ngram.unwrap_or(form.no_repeat_ngram),
            logit_bias: self.logit_bias.clone(),
            grammar: form.grammar,
        };
        Ok(DecoderOptions {
            answer,
            schedule: self.schedule(args),
            ..DecoderOptions::default()
        })
    }

    fn grammar(&self, model: &Arc<Model>) -> Result<Option<Grammar>> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let grammar = if let Some(gbnf) = &self.grammar {
            Grammar::new(model, gbnf)?
        } else if let Some(path) = &self.grammar_file {
            Grammar::new(model, &read(path)?)?
        } else if let Some(schema) = &self.json_schema {
            Grammar::from_json_schema(model, schema)?
        } else if let Some(path) = &self.json_schema_file {
            Grammar::from_json_schema(model, &read(path)?)?
        } else {
            return Ok(None);
        };
        Ok(Some(grammar))
    }

    fn schedule(&self, args: &ModelArgs) -> PassSchedule {
        let fastest = PassSchedule::fastest(if args.on_gpu() {
            Processor::Gpu
        } else {
            let n_threads = args.context().n_threads;
            Processor::Cpu { n_threads }
        });
        let Some(parts) = &self.schedule else {
            return fastest;
        };
        let has = |part| parts.contains(&part);
        PassSchedule {
            side_by_side: has(SchedulePart::SideBySide),
            lean: has(SchedulePart::Lean),
            lazy: has(SchedulePart::Lazy),
            speculate: if has(SchedulePart::Speculate) {
                PassSchedule::AHEAD
            } else {
                0
            },
            draft: if has(SchedulePart::Draft) {
                PassSchedule::AHEAD
            } else {
                0
            },
        }
    }
}

/// Parses a bias in llama.cpp's notation: a token's number, then the bias with its sign.
fn parse_logit_bias(text: &str) -> Result<(Token, f32), String> {
    let parse = || {
        let sign = text.find(['+', '-'])?;
        Some((text[..sign].parse().ok()?, text[sign..].parse().ok()?))
    };
    parse().ok_or_else(|| {
        "give a token's number and the bias with its sign, for example 15043+2.5".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logit_bias_is_a_token_and_a_signed_number() {
        assert_eq!(parse_logit_bias("15043+2.5"), Ok((15043, 2.5)));
        assert_eq!(parse_logit_bias("7-inf"), Ok((7, f32::NEG_INFINITY)));
        for wrong in ["", "7", "+1", "7+", "a-1", "7-x"] {
            let message = parse_logit_bias(wrong).unwrap_err();
            assert!(
                message.contains("for example 15043+2.5"),
                "{wrong}: {message}"
            );
        }
    }
}
