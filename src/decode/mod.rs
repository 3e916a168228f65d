//! Decoding: from a prompt's tokens to text, by one model or by the contrast of two.
//!
//! ```text
//! prompt ─→ Policy ─→ candidates ─→ SamplerChain ─→ token ─→ Text ─→ Piece
//!             ↑  contrast.rs         sampling.rs      │      text.rs
//!             └───────────────────────────────────────┘
//! ```
//!
//! All arms (base, user, CoPe) go through the one loop of [`Decoder`]; it knows token numbers and [`LogitSource`]s, and
//! nothing of llama.cpp.

pub mod contrast;
mod decoder;
mod sampling;
mod schedule;
mod text;

pub use contrast::Contrast;
pub use decoder::{DecodeOptions, Decoder, Finish, Piece};
pub use sampling::Sampling;
pub use schedule::{Arm, Policy};
pub use text::Text;

use crate::Result;
use crate::llama::{Context, Model, Token};

/// A language model at the end of a sequence of tokens: tokens in, logits out.
pub trait LogitSource {
    /// Size of the vocabulary.
    fn n_vocab(&self) -> usize;
    /// Room for tokens.
    fn n_ctx(&self) -> usize;
    /// The sequence so far.
    fn tokens(&self) -> &[Token];
    /// Appends `tokens` to the sequence; on an error it is as before.
    ///
    /// # Errors
    ///
    /// The tokens do not fit, the pass was interrupted, or it failed.
    fn extend(&mut self, tokens: &[Token]) -> Result<()>;
    /// What may follow the sequence, `[n_vocab]`, unnormalised; valid after [`extend`](Self::extend).
    fn logits(&self) -> &[f32];
    /// Shortens the sequence to its first `len` tokens, or to none if the model cannot go back.
    fn truncate(&mut self, len: usize);
    /// Whether [`shift`](Self::shift) is possible.
    fn can_shift(&self) -> bool;
    /// Takes the `discard` tokens after the first `keep` out of the sequence.
    fn shift(&mut self, keep: usize, discard: usize);
}

impl LogitSource for Context {
    fn n_vocab(&self) -> usize {
        self.model().n_vocab()
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx()
    }

    fn tokens(&self) -> &[Token] {
        self.tokens()
    }

    fn extend(&mut self, tokens: &[Token]) -> Result<()> {
        self.extend(tokens)
    }

    fn logits(&self) -> &[f32] {
        self.logits()
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
}

/// What the text of tokens is, and which of them end it.
pub trait Vocabulary {
    /// The bytes of an ordinary token; none for special ones.
    fn token_bytes(&self, token: Token) -> Vec<u8>;
    /// Whether `token` ends a generation.
    fn is_eog(&self, token: Token) -> bool;
}

impl Vocabulary for Model {
    fn token_bytes(&self, token: Token) -> Vec<u8> {
        self.token_bytes(token, false)
    }

    fn is_eog(&self, token: Token) -> bool {
        self.is_eog(token)
    }
}
