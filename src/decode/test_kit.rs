//! The test kit of the decoding loops: a fake language model, whose logits are any function of the tokens so far, as a
//! source of one sequence and of many, and a vocabulary of four words.

use std::ops::Range;
use std::sync::Arc;

use super::{AnswerOptions, Candidate, LogitSource, Rows, SequenceSource, Vocabulary};
use crate::Result;
use crate::llama::Token;

type Next = dyn Fn(&[Token]) -> Vec<f32> + Send + Sync;

/// The words a, b and c (tokens 0, 1 and 2); token 3 ends the text.
pub struct Words;

impl Vocabulary for Words {
    fn token_bytes(&self, token: Token) -> Vec<u8> {
        ["a", "b", "c", ""][token as usize].into()
    }

    fn is_eog(&self, token: Token) -> bool {
        token == 3
    }
}

/// Logits of four words by the last word alone: `rows[last]`.
pub type Rows4 = [[f32; 4]; 4];

/// a → b → c → the end.
pub const ENDING: Rows4 = [
    [0., 2., 1., 0.],
    [0., 0., 2., 1.],
    [1., 0., 0., 2.],
    [0.; 4],
];

/// a → b → a → b → …, with c the next best.
pub const ENDLESS: Rows4 = [
    [0., 2., 1., -9.],
    [2., 0., 1., -9.],
    [2., 0., 0., -9.],
    [0.; 4],
];

/// The function of tokens that looks up the row of the last.
pub fn by_last(rows: Rows4) -> impl Fn(&[Token]) -> Vec<f32> + Send + Sync + Clone {
    move |tokens| rows[*tokens.last().expect("a token") as usize].to_vec()
}

/// Options of at most `n_predict` tokens.
pub fn limit(n_predict: usize) -> AnswerOptions {
    AnswerOptions {
        n_predict: Some(n_predict),
        ..AnswerOptions::default()
    }
}

/// A model whose logits after `tokens` are `next(tokens)`.
pub struct Table {
    pub n_ctx: usize,
    pub max_rows: usize,
    pub tokens: Vec<Token>,
    /// Tokens read in all.
    pub n_evaluated: usize,
    next: Arc<Next>,
    n_vocab: usize,
    /// The rows after `rows.0` tokens and those that follow.
    rows: (usize, Vec<Vec<f32>>),
    /// Which of their logits may be asked for.
    computed: Rows,
}

impl Table {
    pub fn new(next: impl Fn(&[Token]) -> Vec<f32> + Send + Sync + 'static) -> Self {
        Self {
            n_ctx: 16,
            max_rows: 4,
            tokens: Vec::new(),
            n_evaluated: 0,
            n_vocab: next(&[0]).len(),
            next: Arc::new(next),
            rows: (0, Vec::new()),
            computed: Rows::Full,
        }
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

    fn extend(&mut self, tokens: &[Token], n_rows: usize, computed: Rows) -> Result<()> {
        assert!(
            self.tokens.len() + tokens.len() <= self.n_ctx,
            "the loop minds the context"
        );
        assert!(n_rows <= self.max_rows && n_rows <= tokens.len() && !tokens.is_empty());
        self.tokens.extend_from_slice(tokens);
        self.n_evaluated += tokens.len();
        let first = self.tokens.len() + 1 - n_rows;
        let rows = (first..=self.tokens.len()).map(|len| (self.next)(&self.tokens[..len]));
        self.rows = (first, rows.collect());
        self.computed = computed;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.computed == Rows::Deferred {
            self.computed = Rows::Full;
        }
        Ok(())
    }

    fn rows(&self) -> Range<usize> {
        self.rows.0..self.rows.0 + self.rows.1.len()
    }

    fn logits(&self, len: usize) -> &[f32] {
        assert_eq!(self.computed, Rows::Full, "only these have all logits");
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

/// Whether a pass that brings a sequence to these tokens fails.
type Fault = dyn Fn(&[Token]) -> Result<()> + Send + Sync;

/// The fake model with many sequences.
pub struct TableSequences {
    pub n_ctx: usize,
    pub n_batch: usize,
    tokens: Vec<Vec<Token>>,
    /// The logits after each sequence of the last pass.
    rows: Vec<Option<Vec<f32>>>,
    /// The logits after each token of the last pass of `read_each`.
    each: Vec<Vec<f32>>,
    computed: Rows,
    next: Arc<Next>,
    fault: Arc<Fault>,
    n_vocab: usize,
}

impl TableSequences {
    pub fn new(
        n_sequences: usize,
        next: impl Fn(&[Token]) -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        Self {
            n_ctx: 256,
            n_batch: 64,
            tokens: vec![Vec::new(); n_sequences],
            rows: vec![None; n_sequences],
            each: Vec::new(),
            computed: Rows::Full,
            n_vocab: next(&[0]).len(),
            next: Arc::new(next),
            fault: Arc::new(|_| Ok(())),
        }
    }

    /// The same model, whose passes fail where `fault` of a sequence's tokens is an error.
    pub fn failing(self, fault: impl Fn(&[Token]) -> Result<()> + Send + Sync + 'static) -> Self {
        Self {
            fault: Arc::new(fault),
            ..self
        }
    }

    fn pass(&mut self, parts: &[(usize, &[Token])], rows: Option<Rows>) -> Result<()> {
        self.rows.fill(None);
        for &(sequence, tokens) in parts {
            self.tokens[sequence].extend_from_slice(tokens);
            assert!(
                self.tokens[sequence].len() <= self.n_ctx,
                "the loop minds the context"
            );
        }
        for &(sequence, _) in parts {
            if let Err(error) = (self.fault)(&self.tokens[sequence]) {
                parts
                    .iter()
                    .for_each(|&(sequence, _)| self.tokens[sequence].clear());
                return Err(error);
            }
        }
        let Some(rows) = rows else {
            return Ok(());
        };
        self.computed = rows;
        for &(sequence, _) in parts {
            self.rows[sequence] = Some((self.next)(&self.tokens[sequence]));
        }
        Ok(())
    }

    fn row(&self, sequence: usize) -> &[f32] {
        self.rows[sequence]
            .as_deref()
            .expect("a sequence of the last pass")
    }
}

impl SequenceSource for TableSequences {
    fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    fn n_sequences(&self) -> usize {
        self.tokens.len()
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    fn n_batch(&self) -> usize {
        self.n_batch
    }

    fn tokens(&self, sequence: usize) -> &[Token] {
        &self.tokens[sequence]
    }

    fn read(&mut self, sequence: usize, tokens: &[Token], rows: Option<Rows>) -> Result<()> {
        self.pass(&[(sequence, tokens)], rows)
    }

    fn max_rows(&self) -> usize {
        4
    }

    fn read_each(&mut self, sequence: usize, tokens: &[Token]) -> Result<()> {
        assert!(tokens.len() <= self.max_rows(), "a row for each token");
        let len = self.tokens[sequence].len();
        self.pass(&[(sequence, tokens)], Some(Rows::Full))?;
        let all = &self.tokens[sequence];
        let lens = len + 1..=all.len();
        self.each = lens.map(|len| (self.next)(&all[..len])).collect();
        Ok(())
    }

    fn logits_at(&self, index: usize) -> &[f32] {
        &self.each[index]
    }

    fn step(&mut self, items: &[(usize, Token)], rows: Rows) -> Result<()> {
        let parts: Vec<_> = items
            .iter()
            .map(|(sequence, token)| (*sequence, std::slice::from_ref(token)))
            .collect();
        self.pass(&parts, Some(rows))
    }

    fn logits(&self, sequence: usize) -> &[f32] {
        assert_eq!(self.computed, Rows::Full, "only these have all logits");
        self.row(sequence)
    }

    fn logits_of(
        &mut self,
        sequence: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let row = self.row(sequence);
        logits.clear();
        logits.extend(candidates.iter().map(|it| row[it.token as usize]));
        Ok(())
    }

    fn truncate(&mut self, sequence: usize, len: usize) {
        self.tokens[sequence].truncate(len);
        self.rows[sequence] = None;
    }

    fn share_threads(&mut self, _: usize) {}
}
