//! Options of a text, its pieces, and the reasons for which it ends.

use super::{Drafter, PassSchedule, Sampling};
use crate::llama::{Grammar, Token};

/// Options of an answer, for both decoding loops.
#[derive(Debug, Clone, Default)]
pub struct AnswerOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The most tokens to generate; `None` for no limit.
    pub n_predict: Option<usize>,
    /// Strings that end the text before them.
    pub stop: Vec<String>,
    /// Whether a text that repeats itself is ended: when a block of tokens has come three times in a row, with at least 24
    /// tokens after its first time.
    pub loop_guard: bool,
    /// The length of a run of tokens that may not occur twice in the answer, which keeps it from loops; 0 for no such rule.
    pub no_repeat_ngram: usize,
    /// Added to the user model's logits of these tokens, before anything else; −∞ bans a token.
    pub logit_bias: Vec<(Token, f32)>,
    /// The grammar that the text has to satisfy.
    pub grammar: Option<Grammar>,
}

impl AnswerOptions {
    /// The settings for answers that people read: those of `chat`, `generate` and `serve` unless they are told others. A
    /// text has neither loops nor penalties, which count the prompt and would change the names and numbers that it copies.
    #[must_use]
    pub fn recommended() -> Self {
        Self {
            loop_guard: true,
            no_repeat_ngram: 8,
            ..Self::default()
        }
    }

    /// These settings with `grammar`. A form has to repeat itself, so that the rules against loops do not hold with one.
    #[must_use]
    pub fn with_form(self, grammar: Option<Grammar>) -> Self {
        if grammar.is_none() {
            return self;
        }
        Self {
            grammar,
            loop_guard: false,
            no_repeat_ngram: 0,
            ..self
        }
    }
}

/// Options of a [`Decoder`](super::Decoder).
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// Options of the answer.
    pub answer: AnswerOptions,
    /// Whether a full context removes some of its tokens to make room, instead of ending the text.
    pub context_shift: bool,
    /// How many of the first tokens a shift keeps: a system prompt, or at least the few first tokens on which attention
    /// rests ("attention sinks"). At most half of the context is kept.
    pub n_keep: usize,
    /// Whether each choice is [explained](super::Decoder::choices), which makes decoding somewhat slower.
    pub explain: bool,
    /// Which passes run and when, which does not change the text.
    pub schedule: PassSchedule,
    /// The user's texts, from which drafts are taken besides the prompt and the text so far.
    pub drafter: Drafter,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        Self {
            answer: AnswerOptions::default(),
            context_shift: true,
            n_keep: 4,
            explain: false,
            schedule: PassSchedule::default(),
            drafter: Drafter::default(),
        }
    }
}

impl From<AnswerOptions> for DecoderOptions {
    /// These options of the answer, and the defaults of the loop.
    fn from(answer: AnswerOptions) -> Self {
        Self {
            answer,
            ..Self::default()
        }
    }
}

/// An item of a [`Decoder`](super::Decoder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More text: whole characters, at least one.
    Text(String),
    /// The context was full, and this many tokens after the first [`n_keep`](DecoderOptions::n_keep) were removed from it.
    Shifted(usize),
}

/// Why a text has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model chose an end token.
    EndOfTurn,
    /// The text has [`n_predict`](AnswerOptions::n_predict) tokens.
    Length,
    /// A stop string was reached.
    Stop,
    /// The text repeated itself, and [`loop_guard`](AnswerOptions::loop_guard) is on.
    Loop,
    /// The context is full, and its model cannot shift or the options do not allow it.
    ContextFull,
    /// The person stopped the text.
    Interrupted,
}
