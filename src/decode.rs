//! Decoding: from a prompt's tokens to text, by one model or by the contrast of two.
//!
//! ```text
//! prompt ─→ Scheduler ─→ candidates ─→ Sampler ─→ token ─→ StopFilter ─→ Piece
//!             ↑  Policy, contrast      sampling.rs  │      stop_filter.rs
//!             └─────────────────────────────────────┘
//! ```
//!
//! All arms (base, user, CoPe) go through the one loop of [`Decoder`]; it knows token numbers and [`LogitSource`]s, and
//! nothing of llama.cpp.

mod batch;
mod choice;
mod decoder;
mod draft;
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

use std::ops::Range;
use std::sync::Arc;

pub use batch::{Batch, BatchEvent, ModelId, TextId, TextRequest};
pub use choice::Choice;
pub use cope_contrast::{self as contrast, Candidate, Contrast};
pub use decoder::Decoder;
pub use draft::Drafter;
pub use options::{AnswerOptions, DecoderOptions, Finish, Piece};
pub use policy::{Arm, ArmKind, Policy};
pub use sampling::{Sampler, Sampling};
pub use schedule::PassSchedule;
pub use sequences::SequenceSource;
pub use statistics::{Passes, Statistics};
pub use stop_filter::StopFilter;

pub use crate::llama::Rows;

use crate::Result;
use crate::llama::{Context, Model, Special, Token};

/// A language model at the end of a sequence of tokens: tokens in, logits out. A pass keeps *rows*: what may follow the
/// first `len` tokens, for some lengths.
pub trait LogitSource: Send {
    /// Size of the vocabulary.
    fn n_vocab(&self) -> usize;
    /// Room for tokens.
    fn n_ctx(&self) -> usize;
    /// The most rows that a pass can keep, at least 1.
    fn max_rows(&self) -> usize;
    /// The sequence so far.
    fn tokens(&self) -> &[Token];
    /// Appends `tokens` to the sequence, and keeps the rows after the last `n_rows` of them, as `rows` says; on an error
    /// the sequence is as before.
    ///
    /// # Errors
    ///
    /// The tokens do not fit, the pass was interrupted, or it failed.
    fn extend(&mut self, tokens: &[Token], n_rows: usize, rows: Rows) -> Result<()>;
    /// Computes the logits that the last pass has left out, if its rows were [`Rows::Deferred`].
    ///
    /// # Errors
    ///
    /// The computation failed.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
    /// The lengths for which there is a row.
    fn rows(&self) -> Range<usize>;
    /// What may follow the first `len` tokens, `[n_vocab]`, unnormalised.
    fn logits(&self, len: usize) -> &[f32];
    /// The same of `candidates` alone, in their order; `logits` is emptied first.
    ///
    /// # Errors
    ///
    /// What they are computed from cannot be read.
    fn logits_of(
        &mut self,
        len: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()>;
    /// Shortens the sequence to its first `len` tokens, or to none if the model cannot go back.
    fn truncate(&mut self, len: usize);
    /// Whether [`shift`](Self::shift) is possible.
    fn can_shift(&self) -> bool;
    /// Takes the `discard` tokens after the first `keep` out of the sequence.
    fn shift(&mut self, keep: usize, discard: usize);
    /// Computes from now on as one of `n` sources whose passes run at the same time.
    fn share_threads(&mut self, n: usize);
}

impl LogitSource for Context {
    fn n_vocab(&self) -> usize {
        self.model().n_vocab()
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx()
    }

    fn max_rows(&self) -> usize {
        self.max_rows()
    }

    fn tokens(&self) -> &[Token] {
        self.tokens()
    }

    fn extend(&mut self, tokens: &[Token], n_rows: usize, rows: Rows) -> Result<()> {
        self.extend(tokens, n_rows, rows)
    }

    fn finish(&mut self) -> Result<()> {
        self.finish()
    }

    fn rows(&self) -> Range<usize> {
        self.rows()
    }

    fn logits(&self, len: usize) -> &[f32] {
        self.logits_after(len)
    }

    fn logits_of(
        &mut self,
        len: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        self.logits_of(len, candidates, logits)
    }

    fn truncate(&mut self, len: usize) {
        self.truncate(len);
    }

    fn can_shift(&self) -> bool {
        self.can_shift()
    }

    fn shift(&mut self, keep: usize, discard: usize) {
        self.shift(keep, discard);
    }

    fn share_threads(&mut self, n: usize) {
        self.share_threads(n);
    }
}

/// What the text of tokens is, and which of them end it.
pub trait Vocabulary {
    /// The bytes of an ordinary token; none for special ones.
    fn token_bytes(&self, token: Token) -> Vec<u8>;
    /// Whether `token` ends a generation.
    fn is_eog(&self, token: Token) -> bool;
}

impl<V: Vocabulary + ?Sized> Vocabulary for Arc<V> {
    fn token_bytes(&self, token: Token) -> Vec<u8> {
        (**self).token_bytes(token)
    }

    fn is_eog(&self, token: Token) -> bool {
        (**self).is_eog(token)
    }
}

impl Vocabulary for Model {
    fn token_bytes(&self, token: Token) -> Vec<u8> {
        self.token_bytes(token, Special::Ignored)
    }

    fn is_eog(&self, token: Token) -> bool {
        self.is_eog(token)
    }
}
