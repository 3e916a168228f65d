//! How a text is decoded, and what a decoding loop tells of it.

use super::{Drafter, PassSchedule, Sampling};
use crate::llama::{Grammar, Token};

/// How a text is decoded.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The most tokens to generate; `None` for no limit.
    pub n_predict: Option<usize>,
    /// Whether a full context makes room by forgetting, rather than ending the text.
    pub context_shift: bool,
    /// The first tokens of the prompt, which are never forgotten: a system prompt, or at least the few on which
    /// attention rests. At most half the context.
    pub n_keep: usize,
    /// Strings that end the text before them.
    pub stop: Vec<String>,
    /// Whether a text that goes round in a loop is ended: a block of tokens that comes three times in a row, and 24
    /// tokens of it after the first time.
    pub loop_guard: bool,
    /// So many tokens never come twice in the same order within the answer, which keeps it from loops; 0 for no such rule.
    pub no_repeat_ngram: usize,
    /// Added to the user model's logits of these tokens, before anything else; −∞ bans a token.
    pub logit_bias: Vec<(Token, f32)>,
    /// What the text may look like.
    pub grammar: Option<Grammar>,
    /// Whether each choice is [explained](super::Decoder::choices), which costs some speed.
    pub explain: bool,
    /// How many of the best candidates a [`Batch`](super::Batch) explains beside each choice that it explains.
    pub n_alternatives: usize,
    /// Which passes are run, and when; it does not change the text.
    pub schedule: PassSchedule,
    /// What drafts are taken from beside the prompt and the text itself.
    pub drafter: Drafter,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            n_predict: None,
            context_shift: true,
            n_keep: 4,
            stop: Vec::new(),
            loop_guard: false,
            no_repeat_ngram: 0,
            logit_bias: Vec::new(),
            grammar: None,
            explain: false,
            n_alternatives: 0,
            schedule: PassSchedule::default(),
            drafter: Drafter::default(),
        }
    }
}

/// What a [`Decoder`](super::Decoder) has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More text: whole characters, at least one.
    Text(String),
    /// The context was full, and this many tokens after the first [`n_keep`](DecodeOptions::n_keep) are forgotten.
    Shifted(usize),
}

/// Why a text has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    EndOfTurn,
    /// It has [`n_predict`](DecodeOptions::n_predict) tokens.
    Length,
    /// It came to a stop string.
    Stop,
    /// It went round in a [loop](DecodeOptions::loop_guard).
    Loop,
    /// The context is full, and cannot or must not forget.
    ContextFull,
    /// The person stopped it.
    Interrupted,
}
