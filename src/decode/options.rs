//! Options of a text, and what a decoding loop tells of it.

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
    /// Whether a text that goes round in a loop is ended: a block of tokens that comes three times in a row, and 24
    /// tokens of it after the first time.
    pub loop_guard: bool,
    /// So many tokens never come twice in the same order within the answer, which keeps it from loops; 0 for no such rule.
    pub no_repeat_ngram: usize,
    /// Added to the user model's logits of these tokens, before anything else; −∞ bans a token.
    pub logit_bias: Vec<(Token, f32)>,
    /// The grammar that the text has to satisfy.
    pub grammar: Option<Grammar>,
}

/// Options of a [`Decoder`](super::Decoder).
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// Options of the answer.
    pub answer: AnswerOptions,
    /// Whether a full context makes room by forgetting, rather than ending the text.
    pub context_shift: bool,
    /// The first tokens of the prompt, which are never forgotten: a system prompt, or at least the few on which
    /// attention rests. At most half the context.
    pub n_keep: usize,
    /// Whether each choice is [explained](super::Decoder::choices), which costs some speed.
    pub explain: bool,
    /// Which passes are run, and when; it does not change the text.
    pub schedule: PassSchedule,
    /// Drafts are taken from the prompt and the text, and from the user's texts that this holds.
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

/// What a [`Decoder`](super::Decoder) has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More text: whole characters, at least one.
    Text(String),
    /// The context was full, and this many tokens after the first [`n_keep`](DecoderOptions::n_keep) are forgotten.
    Shifted(usize),
}

/// Why a text has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    EndOfTurn,
    /// It has [`n_predict`](AnswerOptions::n_predict) tokens.
    Length,
    /// It came to a stop string.
    Stop,
    /// It went round in a [loop](AnswerOptions::loop_guard).
    Loop,
    /// The context is full, and cannot or must not forget.
    ContextFull,
    /// The person stopped it.
    Interrupted,
}
