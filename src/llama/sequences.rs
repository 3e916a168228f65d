//! Many sequences of tokens in one context, each with a cache of its own, read in common passes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cope_contrast::Candidate;

use super::{Context, ContextOptions, LoraAdapter, Model, Rows, Token, sys};
use crate::{Error, Result};

/// A context of several sequences, seen by one model through at most one adapter.
#[derive(Debug)]
pub struct Sequences {
    context: Context,
    /// What each one's cache holds.
    tokens: Vec<Vec<Token>>,
    /// Which of the last pass's tokens, and so of its rows, is each one's last, if it had one.
    rows: Vec<Option<PassRow>>,
    /// Room for tokens in each.
    n_ctx: usize,
}

/// A row of a pass.
#[derive(Debug, Clone, Copy)]
struct PassRow {
    /// Of its token among those of the pass.
    token: usize,
    /// Of itself among the rows.
    row: usize,
}

impl Sequences {
    /// `n_sequences` empty sequences, each with room for as many tokens as `options` say.
    ///
    /// # Errors
    ///
    /// As [`Context::new`].
    pub fn new(
        model: &Arc<Model>,
        adapter: Option<(Arc<LoraAdapter>, f32)>,
        options: &ContextOptions,
        n_sequences: usize,
    ) -> Result<Self> {
        let n_sequences = n_sequences.max(1);
        let options = ContextOptions {
            n_outputs: n_sequences as u32,
            n_batch: options.n_batch.max(n_sequences as u32),
            ..options.clone()
        };
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

    /// [`Context::set_interrupt`].
    pub fn set_interrupt(&mut self, flag: Arc<AtomicBool>) {
        self.context.set_interrupt(flag);
    }

    /// [`Context::share_threads`].
    pub fn share_threads(&mut self, n: usize) {
        self.context.share_threads(n);
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        self.context.model()
    }

    /// How many sequences there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never: there is always one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Room for tokens in each.
    #[must_use]
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// What the cache of `sequence` holds.
    #[must_use]
    pub fn tokens(&self, sequence: usize) -> &[Token] {
        &self.tokens[sequence]
    }

    /// Reads `tokens` into `sequence`, and keeps a row of logits after the last, as `rows` says. On an error the sequence
    /// is emptied.
    ///
    /// # Errors
    ///
    /// As [`Context::extend`].
    pub fn read(&mut self, sequence: usize, tokens: &[Token], rows: Rows) -> Result<()> {
        let n_batch = self.context.n_batch();
        let last = tokens.len().saturating_sub(1) / n_batch;
        for (number, batch) in tokens.chunks(n_batch).enumerate() {
            let items: Vec<_> = batch.iter().map(|&token| (sequence, token)).collect();
            let is_output = |index: usize| number == last && index + 1 == batch.len();
            self.pass(&items, is_output, rows)?;
        }
        Ok(())
    }

    /// Reads a token into each of several sequences in one pass, and keeps a row of logits after each, as `rows` says. On
    /// an error these sequences are emptied.
    ///
    /// # Errors
    ///
    /// As [`Context::extend`].
    ///
    /// # Panics
    ///
    /// If the sequences are not in ascending order.
    pub fn step(&mut self, items: &[(usize, Token)], rows: Rows) -> Result<()> {
        assert!(
            items.is_sorted_by(|x, y| x.0 < y.0),
            "llama.cpp keeps rows in the order of the sequences"
        );
        self.pass(items, |_| true, rows)
    }

    /// The logits of what may follow `sequence`, `[n_vocab]`, unnormalised.
    ///
    /// # Panics
    ///
    /// If the last pass was not one over this sequence, or it computed no logits ([`Rows::Candidates`]).
    #[must_use]
    pub fn logits(&self, sequence: usize) -> &[f32] {
        let PassRow { token, row } = self.row(sequence);
        self.context.logits_at(token, row)
    }

    /// Those of `candidates` alone, as [`Context::logits_of`].
    ///
    /// # Errors
    ///
    /// As [`Context::logits_of`].
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

    /// The most tokens that are read in one pass.
    #[must_use]
    pub fn n_batch(&self) -> usize {
        self.context.n_batch()
    }

    /// Keeps the first `len` tokens of `sequence`. One that cannot be cut there (a recurrent model's) is emptied.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        if len >= self.tokens[sequence].len() {
            return;
        }
        self.rows[sequence] = None;
        let id = sequence as sys::llama_seq_id;
        // SAFETY: the memory is the live context's; whole sequences can always be removed.
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

    /// A pass over `items`, which hold consecutive tokens of a sequence or single ones of several.
    fn pass(
        &mut self,
        items: &[(usize, Token)],
        is_output: impl Fn(usize) -> bool,
        rows: Rows,
    ) -> Result<()> {
        self.rows.fill(None);
        // Nobody finishes the rows of several sequences later.
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

    /// Where each of `items` comes in its sequence, if it exists and fits.
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
