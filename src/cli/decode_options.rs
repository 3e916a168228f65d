//! Options of those commands that decode. Names are llama.cpp's where it has one.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cope_llama::decode::{AnswerOptions, DecoderOptions, PassSchedule, Sampling};
use cope_llama::llama::{Grammar, Model, Token};

use super::options::ModelArgs;

/// How tokens are chosen.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub struct DecodeArgs {
    /// The most tokens of an answer; -1 for no limit
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 512,
        allow_negative_numbers = true
    )]
    predict: i64,
    /// 0 takes the best token; above it, draws are flatter the higher it is
    #[arg(long, value_name = "X", default_value_t = Sampling::default().temperature)]
    pub temp: f32,
    /// Draw among the N best; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = Sampling::default().top_k)]
    top_k: u32,
    /// Draw among the best whose probabilities sum to X; 1 for no limit
    #[arg(long, value_name = "X", default_value_t = Sampling::default().top_p)]
    top_p: f32,
    /// Draw among those at least X as probable as the best; 0 for no limit
    #[arg(long, value_name = "X", default_value_t = Sampling::default().min_p)]
    min_p: f32,
    /// Draw among those whose information is nearest to the expected, until their probabilities sum to X; 1 for no limit
    #[arg(long, value_name = "X", default_value_t = Sampling::default().typical)]
    typical: f32,
    /// Makes the last tokens less likely again; 1 for none
    #[arg(long, value_name = "X", default_value_t = Sampling::default().repeat_penalty)]
    repeat_penalty: f32,
    /// How many of the last tokens the penalties see
    #[arg(long, value_name = "N", default_value_t = Sampling::default().repeat_last_n)]
    repeat_last_n: u32,
    /// Subtracted from the score of each of the last tokens, once
    #[arg(long, value_name = "X", default_value_t = Sampling::default().presence_penalty)]
    presence_penalty: f32,
    /// Subtracted from the score of each of the last tokens, once per occurrence
    #[arg(long, value_name = "X", default_value_t = Sampling::default().frequency_penalty)]
    frequency_penalty: f32,
    /// Seed of the draws: the same seed gives the same text
    #[arg(short, long, value_name = "N", default_value_t = Sampling::default().seed)]
    pub seed: u32,
    /// A text that ends the answer before it; may be given again for others
    #[arg(short = 'r', long = "stop", value_name = "TEXT")]
    stop: Vec<String>,
    /// End an answer that says the same thing a third time
    #[arg(long)]
    loop_guard: bool,
    /// Say no N tokens in a row twice in an answer, which keeps it from loops; 0 for no such rule
    #[arg(long, value_name = "N", default_value_t = 0)]
    no_repeat_ngram: usize,
    /// Added to the user model's logit of a token, by its number: 15043+2.5, or 15043-inf to ban it; may be given again
    #[arg(short, long, value_name = "TOKEN±X", value_parser = parse_logit_bias)]
    logit_bias: Vec<(Token, f32)>,
    /// The answer is a text of this grammar, in GBNF
    #[arg(long, value_name = "GBNF", group = "form")]
    grammar: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", group = "form")]
    grammar_file: Option<PathBuf>,
    /// The answer is JSON of this schema
    #[arg(short, long, value_name = "SCHEMA", group = "form")]
    json_schema: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", group = "form")]
    json_schema_file: Option<PathBuf>,
    /// Which passes are run, which does not change the answer: side-by-side, lean, lazy, speculate, draft, or none
    /// [default: what is fastest on the CPU, or on the GPU]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    schedule: Option<Vec<SchedulePart>>,
    /// Say what the answer has cost
    #[arg(long)]
    pub timings: bool,
}

/// A part of a schedule.
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
    /// The options for an answer by `model`, loaded as `args` say.
    pub fn options(&self, args: &ModelArgs, model: &Arc<Model>) -> Result<DecoderOptions> {
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
                seed: self.seed,
            },
            n_predict: usize::try_from(self.predict).ok(),
            stop: self.stop.clone(),
            loop_guard: self.loop_guard,
            no_repeat_ngram: self.no_repeat_ngram,
            logit_bias: self.logit_bias.clone(),
            grammar: self.grammar(model)?,
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
        let fastest = PassSchedule::fastest(args.context().n_threads, args.on_gpu());
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

/// llama.cpp's way of writing a bias: a token's number, and the bias with its sign.
fn parse_logit_bias(text: &str) -> Result<(Token, f32), String> {
    let parse = || {
        let sign = text.find(['+', '-'])?;
        Some((text[..sign].parse().ok()?, text[sign..].parse().ok()?))
    };
    parse().ok_or_else(|| "write a token's number and the bias with its sign: 15043+2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logit_bias_is_a_token_and_a_signed_number() {
        assert_eq!(parse_logit_bias("15043+2.5"), Ok((15043, 2.5)));
        assert_eq!(parse_logit_bias("7-inf"), Ok((7, f32::NEG_INFINITY)));
        for wrong in ["", "7", "+1", "7+", "a-1", "7-x"] {
            assert!(parse_logit_bias(wrong).is_err(), "{wrong}");
        }
    }
}
