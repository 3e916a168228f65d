//! A language model for tests: any function of the tokens so far.

use std::ops::Range;

use super::{Candidate, LogitSource};
use crate::Result;
use crate::llama::Token;

type Next = dyn Fn(&[Token]) -> Vec<f32> + Send;

/// A model whose logits after `tokens` are `next(tokens)`.
pub struct Table {
    pub n_ctx: usize,
    pub max_rows: usize,
    pub tokens: Vec<Token>,
    /// Tokens read in all.
    pub n_evaluated: usize,
    next: Box<Next>,
    n_vocab: usize,
    /// The rows after `rows.0` tokens and those that follow, and whether of candidates alone.
    rows: (usize, Vec<Vec<f32>>, bool),
}

impl Table {
    pub fn new(next: impl Fn(&[Token]) -> Vec<f32> + Send + 'static) -> Self {
        Self {
            n_ctx: 16,
            max_rows: 4,
            tokens: Vec::new(),
            n_evaluated: 0,
            n_vocab: next(&[0]).len(),
            next: Box::new(next),
            rows: (0, Vec::new(), false),
        }
    }

    fn read(&mut self, tokens: &[Token], n_rows: usize, lean: bool) {
        assert!(
            self.tokens.len() + tokens.len() <= self.n_ctx,
            "the loop minds the context"
        );
        assert!(n_rows <= self.max_rows && n_rows <= tokens.len() && !tokens.is_empty());
        self.tokens.extend_from_slice(tokens);
        self.n_evaluated += tokens.len();
        let first = self.tokens.len() + 1 - n_rows;
        let rows = (first..=self.tokens.len()).map(|len| (self.next)(&self.tokens[..len]));
        self.rows = (first, rows.collect(), lean);
    }
}

impl LogitSource for Table {
    fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    fn extend(&mut self, tokens: &[Token], n_rows: usize) -> Result<()> {
        self.read(tokens, n_rows, false);
        Ok(())
    }

    fn extend_lean(&mut self, tokens: &[Token], n_rows: usize) -> Result<()> {
        self.read(tokens, n_rows, true);
        Ok(())
    }

    fn rows(&self) -> Range<usize> {
        self.rows.0..self.rows.0 + self.rows.1.len()
    }

    fn logits(&self, len: usize) -> &[f32] {
        assert!(!self.rows.2, "a lean pass has no logits");
        &self.rows.1[len - self.rows.0]
    }

    fn logits_of(
        &mut self,
        len: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let row = &self.rows.1[len - self.rows.0];
        logits.clear();
        logits.extend(candidates.iter().map(|it| row[it.token as usize]));
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        let n_rows = (len + 1).saturating_sub(self.rows.0);
        self.rows.1.truncate(n_rows);
    }

    fn can_shift(&self) -> bool {
        true
    }

    fn shift(&mut self, keep: usize, discard: usize) {
        self.tokens.drain(keep..keep + discard);
        self.rows.1.clear();
    }

    fn share_threads(&mut self, _: usize) {}
}
