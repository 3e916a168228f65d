//! Decoding: from the tokens of a prompt to text, by one model or by the contrast of two.
//!
//! ```text
//! prompt ─→ Scheduler ─→ candidates ─→ Sampler ─→ token ─→ StopFilter ─→ Piece
//!             ↑  Policy, contrast      sampling.rs  │      stop_filter.rs
//!             └─────────────────────────────────────┘
//! ```
//!
//! There are two loops and one rule. [`Decoder`] decodes one text, as fast as one text can be decoded: it drafts, guesses
//! and shifts a full context. [`Batch`] decodes many texts at once, so that each pass over the weights serves them all. The
//! rule by which a text ends (an end token, a stop string, a repeated block, the most tokens, a full context) is one function
//! that both call, and both choose tokens by the same [`Sampler`]. So both give the same text, up to the rounding of passes
//! of different lengths. Neither knows llama.cpp: they see token numbers and [`LogitSource`]s or [`SequenceSource`]s.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | *arm* | [`ArmKind`], [`Arm`]: one of the three ways to answer: the base, the user's model, or CoPe, their contrast |
//! | *policy* | [`Policy`]: the models that an arm runs, and how their logits become candidates |
//! | *leader* | the model whose plausible tokens are the candidates: the user's model, or the only one |
//! | *candidate* | [`Candidate`]: a token with its score |
//! | *head*, `V_head` | the plausible tokens, those at least τ times as probable as the likeliest; in [`Rows`], the output head: the matrix from hidden states to logits |
//! | *row* | [`Rows`]: the logits that follow one length of a sequence, which a pass keeps |
//! | *pass* | [`Passes`]: one run of a model over one or more tokens |
//! | *schedule* | [`PassSchedule`]: which passes run and when; it does not change the text. The fastest depends on the [`Processor`] |
//! | *draft* | [`Drafter`]: tokens that probably come next because they followed the same tokens before, read in one pass |
//! | *guess* | a token that the user's model chooses alone, before the base is asked |
//! | *explained choice* | [`Choice`]: a chosen token with the probabilities that both models gave it |
//! | *steered* | [`Steered`]: a chosen token beside the one that the user's model would have chosen without contrast |
//! | *piece* | [`Piece`]: some text that is certain, or a notice that tokens were forgotten |
//! | *finish* | [`Finish`]: why a text ended |
//! | *options* | [`AnswerOptions`] for both loops, [`DecoderOptions`] for [`Decoder`], [`TextRequest`] for [`Batch`]; [`Sampling`] in all |
//! | *event* | [`BatchEvent`]: what happens to the text of a [`TextId`] in a batch of models, each with a [`ModelId`] |
//! | *stop filter* | [`StopFilter`]: holds back what may become part of a stop string or of a character |
//! | *statistics* | [`Statistics`]: what a text has cost in passes, tokens and time |
//!
//! # Example
//!
//! A model of three words, each followed by the next; the last one ends the text.
//!
//! ```
//! use std::ops::Range;
//!
//! use cope_llama::Result;
//! use cope_llama::decode::{
//!     AnswerOptions, Candidate, Decoder, Finish, LogitSource, Piece, Policy, Rows, Vocabulary,
//! };
//! use cope_llama::llama::Token;
//!
//! const WORDS: [&str; 3] = ["one ", "two ", ""];
//!
//! struct Words;
//!
//! impl Vocabulary for Words {
//!     fn token_bytes(&self, token: Token) -> Vec<u8> {
//!         WORDS[token as usize].into()
//!     }
//!     fn is_eog(&self, token: Token) -> bool {
//!         token == 2
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Counter {
//!     tokens: Vec<Token>,
//!     logits: [f32; 3],
//! }
//!
//! impl LogitSource for Counter {
//!     fn n_vocab(&self) -> usize {
//!         WORDS.len()
//!     }
//!     fn n_ctx(&self) -> usize {
//!         16
//!     }
//!     fn max_rows(&self) -> usize {
//!         1
//!     }
//!     fn tokens(&self) -> &[Token] {
//!         &self.tokens
//!     }
//!     fn extend(&mut self, tokens: &[Token], _: usize, _: Rows) -> Result<()> {
//!         self.tokens.extend(tokens);
//!         self.logits = [0.0; 3];
//!         self.logits[(self.tokens[self.tokens.len() - 1] as usize + 1) % 3] = 1.0;
//!         Ok(())
//!     }
//!     fn rows(&self) -> Range<usize> {
//!         self.tokens.len()..self.tokens.len() + 1
//!     }
//!     fn logits(&self, _: usize) -> &[f32] {
//!         &self.logits
//!     }
//!     fn logits_of(&mut self, _: usize, of: &[Candidate], logits: &mut Vec<f32>) -> Result<()> {
//!         logits.clear();
//!         logits.extend(of.iter().map(|candidate| self.logits[candidate.token as usize]));
//!         Ok(())
//!     }
//!     fn truncate(&mut self, len: usize) {
//!         self.tokens.truncate(len);
//!     }
//!     fn can_shift(&self) -> bool {
//!         false
//!     }
//!     fn shift(&mut self, _: usize, _: usize) {}
//!     fn share_threads(&mut self, _: usize) {}
//! }
//!
//! let mut model = Counter::default();
//! let options = AnswerOptions {
//!     n_predict: Some(8),
//!     ..AnswerOptions::default()
//! };
//! // The prompt is token 0, "one ".
//! let mut decoder = Decoder::new(Policy::Plain(&mut model), &Words, &[0], options.into())?;
//! let mut text = String::new();
//! for piece in &mut decoder {
//!     if let Piece::Text(more) = piece? {
//!         text.push_str(&more);
//!     }
//! }
//! assert_eq!(text, "two ");
//! assert_eq!(decoder.finish(), Some(Finish::EndOfTurn));
//! # Ok::<(), cope_llama::Error>(())
//! ```

mod batch;
mod choice;
mod decoder;
mod draft;
mod logit_source;
mod options;
mod policy;
mod repetition;
mod sampling;
mod schedule;
mod sequences;
mod statistics;
mod stop_filter;
#[cfg(test)]
mod test_kit;
mod text_state;

pub use batch::{Batch, BatchEvent, ModelId, TextId, TextRequest};
pub use choice::{Choice, Steered};
pub use cope_contrast::{self as contrast, Candidate, Contrast};
pub use decoder::Decoder;
pub use draft::Drafter;
pub use logit_source::{LogitSource, Vocabulary};
pub use options::{AnswerOptions, DecoderOptions, Finish, Piece};
pub use policy::{Arm, ArmKind, Policy};
pub use sampling::{Sampler, Sampling};
pub use schedule::{PassSchedule, Processor};
pub use sequences::SequenceSource;
pub use statistics::{Passes, Statistics};
pub use stop_filter::StopFilter;

pub use crate::llama::Rows;
