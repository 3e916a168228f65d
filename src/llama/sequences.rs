//! Many sequences of tokens in one context, each with its own cache, read in common passes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cope_contrast::Candidate;

use super::{Context, ContextOptions, LoraAdapter, Model, Rows, Token, context_size, sys};
use crate::{Error, Result};

/// A context of several sequences, of one model with at most one adapter.
#[derive(Debug)]
pub struct Sequences {
    context: Context,
    /// The tokens in the cache of each sequence.
    tokens: Vec<Vec<Token>>,
    /// The row of each sequence in the last pass, if it had one.
    rows: Vec<Option<PassRow>>,
    /// The most tokens of each sequence.
    n_ctx: usize,
}

/// `options` whose passes have room for a token and a row of each sequence.
fn with_room(options: &ContextOptions, n_sequences: usize) -> ContextOptions {
    ContextOptions {
        n_outputs: options.n_outputs.max(n_sequences as u32),
        n_batch: options.n_batch.max(n_sequences as u32),
        ..options.clone()
    }
}

/// A row of a pass.
#[derive(Debug, Clone, Copy)]
struct PassRow {
    /// The index of its token in the pass.
    token: usize,
    /// The index of the row among the rows.
    row: usize,
}

impl Sequences {
    /// The most sequences of one context (llama.cpp's `LLAMA_MAX_SEQ`).
    pub const MAX: usize = 256;

    /// Makes `n_sequences` empty sequences, each with room for the tokens of `options`.
    ///
    /// # Errors
    ///
    /// The errors of [`Context::new`].
    pub fn new(
        model: &Arc<Model>,
        adapter: Option<(Arc<LoraAdapter>, f32)>,
        options: &ContextOptions,
        n_sequences: usize,
    ) -> Result<Self> {
        let n_sequences = n_sequences.max(1);
        let options = with_room(options, n_sequences);
        let context = Context::with_sequences(model, adapter, &options, n_sequences as u32)?;
        // SAFETY: the context is live.
        let n_ctx = unsafe { sys::llama_n_ctx_seq(context.raw()) } as usize;
        Ok(Self {
            context,
            tokens: vec![Vec::new(); n_sequences],
            rows: vec![None; n_sequences],
            n_ctx,
        })
    }

    /// Checks that there is memory for sequences that [`new`](Self::new) would make.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] if they take more memory than is free.
    pub fn check_memory(
        model: &Arc<Model>,
        options: &ContextOptions,
        n_sequences: usize,
    ) -> Result<()> {
        let n_sequences = n_sequences.max(1);
        let options = with_room(options, n_sequences);
        context_size::check(model, &options, n_sequences as u32)
    }

    /// Makes a running pass fail once `flag` is true, like [`Context::set_interrupt`].
    pub fn set_interrupt(&mut self, flag: Arc<AtomicBool>) {
        self.context.set_interrupt(flag);
    }

    /// Uses the `n`th part of the threads from now on, like [`Context::share_threads`].
    pub fn share_threads(&mut self, n: usize) {
        self.context.share_threads(n);
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        self.context.model()
    }

    /// The number of sequences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Always false, since there is at least one sequence.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The most tokens of each sequence.
    #[must_use]
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// The tokens in the cache of `sequence`.
    #[must_use]
    pub fn tokens(&self, sequence: usize) -> &[Token] {
        &self.tokens[sequence]
    }

    /// Reads `tokens` into `sequence`, and keeps a row of logits after the last, as `rows` says, or none with `None`. On an
    /// error the sequence is emptied.
    ///
    /// # Errors
    ///
    /// The errors of [`Context::extend`].
    pub fn read(&mut self, sequence: usize, tokens: &[Token], rows: Option<Rows>) -> Result<()> {
        let n_batch = self.context.n_batch();
        let last = tokens.len().saturating_sub(1) / n_batch;
        for (number, batch) in tokens.chunks(n_batch).enumerate() {
            let items: Vec<_> = batch.iter().map(|&token| (sequence, token)).collect();
            let is_end = |index: usize| number == last && index + 1 == batch.len();
            let is_output = |index: usize| rows.is_some() && is_end(index);
            self.pass(&items, is_output, rows.unwrap_or(Rows::Full))?;
        }
        Ok(())
    }

    /// Reads at most [`max_rows`](Self::max_rows) `tokens` into `sequence` in one pass, and keeps a row of logits after each.
    /// On an error the sequence is emptied.
    ///
    /// # Errors
    ///
    /// The errors of [`Context::extend`].
    ///
    /// # Panics
    ///
    /// If there are more tokens than rows.
    pub fn read_each(&mut self, sequence: usize, tokens: &[Token]) -> Result<()> {
        let items: Vec<_> = tokens.iter().map(|&token| (sequence, token)).collect();
        self.pass(&items, |_| true, Rows::Full)
    }

    /// The unnormalised logits of the token after the `index`th of the last pass, one of [`read_each`](Self::read_each),
    /// `[n_vocab]`.
    ///
    /// # Panics
    ///
    /// If that pass had no such token.
    #[must_use]
    pub fn logits_at(&self, index: usize) -> &[f32] {
        self.context.logits_at(index, index)
    }

    /// Reads a token into each of several sequences in one pass, and keeps a row of logits after each, as `rows` says. On
    /// an error these sequences are emptied.
    ///
    /// # Errors
    ///
    /// The errors of [`Context::extend`].
    ///
    /// # Panics
    ///
    /// If the sequences are not in ascending order.
    pub fn step(&mut self, items: &[(usize, Token)], rows: Rows) -> Result<()> {
        assert!(
            items.is_sorted_by(|x, y| x.0 < y.0),
            "items must be in ascending order of sequences, as llama.cpp keeps their rows"
        );
        self.pass(items, |_| true, rows)
    }

    /// The unnormalised logits of the token after `sequence`, `[n_vocab]`.
    ///
    /// # Panics
    ///
    /// If the last pass was not one over this sequence, or it computed no logits ([`Rows::Candidates`]).
    #[must_use]
    pub fn logits(&self, sequence: usize) -> &[f32] {
        let PassRow { token, row } = self.row(sequence);
        self.context.logits_at(token, row)
    }

    /// Writes the logits of `candidates` after `sequence` to `logits`, in their order; `logits` is emptied first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the model's file can no longer be read.
    ///
    /// # Panics
    ///
    /// If the last pass was not one over this sequence.
    pub fn logits_of(
        &mut self,
        sequence: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let PassRow { token, row } = self.row(sequence);
        self.context.logits_of_at(token, row, candidates, logits)
    }

    /// The most rows of logits that one pass keeps.
    #[must_use]
    pub fn max_rows(&self) -> usize {
        self.context.max_rows()
    }

    /// The most tokens of one pass.
    #[must_use]
    pub fn n_batch(&self) -> usize {
        self.context.n_batch()
    }

    /// Keeps the first `len` tokens of `sequence`. A sequence that cannot be cut there (that of a recurrent model) is
    /// emptied.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        if len >= self.tokens[sequence].len() {
            return;
        }
        self.rows[sequence] = None;
        let id = sequence as sys::llama_seq_id;
        // SAFETY: the memory belongs to the live context; whole sequences can always be removed.
        unsafe {
            let memory = sys::llama_get_memory(self.context.raw());
            if len > 0 && sys::llama_memory_seq_rm(memory, id, len as i32, -1) {
                self.tokens[sequence].truncate(len);
            } else {
                sys::llama_memory_seq_rm(memory, id, -1, -1);
                self.tokens[sequence].clear();
            }
        }
    }

    fn row(&self, sequence: usize) -> PassRow {
        self.rows[sequence].expect("a row of the last pass")
    }

    /// Runs a pass over `items`, which are consecutive tokens of one sequence or single tokens of several.
    fn pass(
        &mut self,
        items: &[(usize, Token)],
        is_output: impl Fn(usize) -> bool,
        rows: Rows,
    ) -> Result<()> {
        self.rows.fill(None);
        // There is no `finish` here: passes over several sequences gain nothing from computing the head later.
        let rows = match rows {
            Rows::Deferred => Rows::Full,
            rows => rows,
        };
        let result = self.positions(items).and_then(|positions| {
            let outputs: Vec<_> = (0..items.len())
                .map(|index| i8::from(is_output(index)))
                .collect();
            self.context.pass(items, &positions, &outputs, rows)?;
            Ok(outputs)
        });
        match result {
            Ok(outputs) => {
                let mut row = 0;
                for (index, (&(sequence, token), output)) in items.iter().zip(outputs).enumerate() {
                    self.tokens[sequence].push(token);
                    if output != 0 {
                        self.rows[sequence] = Some(PassRow { token: index, row });
                        row += 1;
                    }
                }
                Ok(())
            }
            Err(error) => {
                items
                    .iter()
                    .for_each(|&(sequence, _)| self.truncate(sequence, 0));
                Err(error)
            }
        }
    }

    /// The position of each item in its sequence.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if a token does not exist or does not fit.
    fn positions(&self, items: &[(usize, Token)]) -> Result<Vec<i32>> {
        let mut lens: Vec<usize> = self.tokens.iter().map(Vec::len).collect();
        let position = |&(sequence, token): &(usize, Token)| {
            if !self.model().contains(token) {
                return Err(Error::input(format!("the model has no token {token}")));
            }
            let position = lens[sequence];
            if position == self.n_ctx {
                return Err(Error::input(format!(
                    "{} tokens do not fit after {} into a sequence of {}",
                    items.iter().filter(|it| it.0 == sequence).count(),
                    self.tokens[sequence].len(),
                    self.n_ctx
                )));
            }
            lens[sequence] += 1;
            Ok(position as i32)
        };
        items.iter().map(position).collect()
    }
}
