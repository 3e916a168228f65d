//! Models that hold several sequences at once.

use super::{Candidate, Rows};
use crate::Result;
use crate::llama::{Sequences, Token};

/// A language model with several sequences of tokens in its cache.
pub trait SequenceSource: Send {
    /// Size of the vocabulary.
    fn n_vocab(&self) -> usize;
    /// How many sequences there are.
    fn n_sequences(&self) -> usize;
    /// The most tokens of each sequence.
    fn n_ctx(&self) -> usize;
    /// The most tokens of one pass.
    fn n_batch(&self) -> usize;
    /// The tokens of a sequence so far.
    fn tokens(&self, sequence: usize) -> &[Token];
    /// Appends `tokens` to a sequence, and keeps a row of logits after the last, as `rows` says, or none with `None`;
    /// [`Rows::Deferred`] is read as [`Rows::Full`]. On an error the sequence is empty.
    ///
    /// # Errors
    ///
    /// The pass was interrupted, or it failed.
    fn read(&mut self, sequence: usize, tokens: &[Token], rows: Option<Rows>) -> Result<()>;
    /// The most rows that a pass can keep, at least 1.
    fn max_rows(&self) -> usize;
    /// Appends at most [`max_rows`](Self::max_rows) `tokens` to a sequence, and keeps a full row of logits after each. On an
    /// error the sequence is empty.
    ///
    /// # Errors
    ///
    /// The pass was interrupted, or it failed.
    fn read_each(&mut self, sequence: usize, tokens: &[Token]) -> Result<()>;
    /// The unnormalised logits of the token after the `index`th that [`read_each`](Self::read_each) has just read,
    /// `[n_vocab]`.
    fn logits_at(&self, index: usize) -> &[f32];
    /// Reads a token into each of several sequences, in ascending order, and keeps a row of logits after each, as `rows`
    /// says. On an error these sequences are empty.
    ///
    /// # Errors
    ///
    /// The pass was interrupted, or it failed.
    fn step(&mut self, items: &[(usize, Token)], rows: Rows) -> Result<()>;
    /// The unnormalised logits of the token after a sequence of the last pass, `[n_vocab]`.
    fn logits(&self, sequence: usize) -> &[f32];
    /// Writes the logits of `candidates` after a sequence of the last pass to `logits`, in their order; `logits` is emptied
    /// first.
    ///
    /// # Errors
    ///
    /// The output head cannot be read from the model's file.
    fn logits_of(
        &mut self,
        sequence: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()>;
    /// Shortens a sequence to its first `len` tokens, or to none if the model cannot go back.
    fn truncate(&mut self, sequence: usize, len: usize);
    /// Uses the `n`th part of the threads from now on, since the passes of `n` sources run at the same time.
    fn share_threads(&mut self, n: usize);
}

impl SequenceSource for Sequences {
    fn n_vocab(&self) -> usize {
        self.model().n_vocab()
    }

    fn n_sequences(&self) -> usize {
        self.len()
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx()
    }

    fn n_batch(&self) -> usize {
        self.n_batch()
    }

    fn tokens(&self, sequence: usize) -> &[Token] {
        self.tokens(sequence)
    }

    fn read(&mut self, sequence: usize, tokens: &[Token], rows: Option<Rows>) -> Result<()> {
        self.read(sequence, tokens, rows)
    }

    fn max_rows(&self) -> usize {
        self.max_rows()
    }

    fn read_each(&mut self, sequence: usize, tokens: &[Token]) -> Result<()> {
        self.read_each(sequence, tokens)
    }

    fn logits_at(&self, index: usize) -> &[f32] {
        self.logits_at(index)
    }

    fn step(&mut self, items: &[(usize, Token)], rows: Rows) -> Result<()> {
        self.step(items, rows)
    }

    fn logits(&self, sequence: usize) -> &[f32] {
        self.logits(sequence)
    }

    fn logits_of(
        &mut self,
        sequence: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        self.logits_of(sequence, candidates, logits)
    }

    fn truncate(&mut self, sequence: usize, len: usize) {
        self.truncate(sequence, len);
    }

    fn share_threads(&mut self, n: usize) {
        self.share_threads(n);
    }
}
