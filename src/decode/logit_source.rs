//! The two things that a decoding loop needs: logits, and the text of tokens.

use std::ops::Range;
use std::sync::Arc;

use super::{Candidate, Rows};
use crate::Result;
use crate::llama::{Context, Model, Special, Token};
use crate::thought::is_special_tag;

/// A language model with a sequence of tokens in its cache: tokens in, logits out. A pass keeps *rows*: the row of a length
/// `len` holds the logits of the token that comes after the first `len` tokens.
pub trait LogitSource: Send {
    /// Size of the vocabulary.
    fn n_vocab(&self) -> usize;
    /// The most tokens of a sequence.
    fn n_ctx(&self) -> usize;
    /// The most rows that a pass can keep, at least 1.
    fn max_rows(&self) -> usize;
    /// The tokens of the sequence so far.
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
    /// The unnormalised logits of the token after the first `len` tokens, `[n_vocab]`.
    fn logits(&self, len: usize) -> &[f32];
    /// Writes the logits of `candidates` after the first `len` tokens to `logits`, in their order; `logits` is emptied
    /// first.
    ///
    /// # Errors
    ///
    /// The output head cannot be read from the model's file.
    fn logits_of(
        &mut self,
        len: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()>;
    /// Shortens the sequence to its first `len` tokens, or to none if the model cannot go back.
    fn truncate(&mut self, len: usize);
    /// The most tokens by which the sequence can be shortened after a pass over more tokens than these; `usize::MAX` if it
    /// can be shortened at any time, to any length.
    fn max_cut(&self) -> usize {
        usize::MAX
    }
    /// Whether [`shift`](Self::shift) is possible.
    fn can_shift(&self) -> bool;
    /// Removes the `discard` tokens after the first `keep` from the sequence.
    fn shift(&mut self, keep: usize, discard: usize);
    /// Uses the `n`th part of the threads from now on, since the passes of `n` sources run at the same time.
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

    fn max_cut(&self) -> usize {
        self.max_cut()
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

/// The text of tokens, and the tokens that end a text.
pub trait Vocabulary {
    /// The bytes of an ordinary token. A special token has none, unless it is a tag around thoughts.
    fn token_bytes(&self, token: Token) -> Vec<u8>;
    /// Whether `token` ends a turn or a text.
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
        let bytes = self.token_bytes(token, Special::Ignored);
        if !bytes.is_empty() {
            return bytes;
        }
        // By these tags a thought is told from the answer, and in some vocabularies they are special tokens.
        let name = self.token_bytes(token, Special::ByName);
        let is_tag = std::str::from_utf8(&name).is_ok_and(is_special_tag);
        if is_tag { name } else { bytes }
    }

    fn is_eog(&self, token: Token) -> bool {
        self.is_eog(token)
    }
}
