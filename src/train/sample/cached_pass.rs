//! One pass of the model with a KV cache: its tokens, and which of its results are needed.

use std::ops::Range;

use super::super::block::recall::Memory;
use super::super::candle::{self, CandleModel};
use super::super::head::Predictions;
use super::super::lora::Lora;
use super::super::model::TrainModel;
use super::super::ops::attention::Segment;
use crate::Result;
use crate::llama::Token;

/// The tokens of one pass.
#[derive(Default)]
pub(super) struct Pass {
    tokens: Vec<Token>,
    positions: Vec<usize>,
    segments: Vec<Segment>,
    /// Row of the cache that each token's key and value are written to.
    cache_rows: Vec<usize>,
    /// Rows of the pass whose logits are needed.
    pub outputs: Vec<u32>,
    /// Tokens whose log-probabilities are needed, and the rows of the pass that predict them.
    pub scored: Predictions,
}

impl Pass {
    /// Adds consecutive tokens of one sequence, the first at `position`. The sequence's rows in the cache are the rows
    /// `before`, then rows of its own from `first_row` on. Returns the tokens' rows of the pass.
    pub fn push(
        &mut self,
        tokens: &[Token],
        position: usize,
        before: &[Range<usize>],
        first_row: usize,
    ) -> Range<usize> {
        let queries = self.tokens.len()..self.tokens.len() + tokens.len();
        if queries.is_empty() {
            return queries;
        }
        let row = first_row + position - before.iter().map(Range::len).sum::<usize>();
        self.tokens.extend(tokens);
        self.positions.extend(position..position + tokens.len());
        self.cache_rows.extend(row..row + tokens.len());
        let mut keys = before.to_vec();
        keys.push(first_row..row + tokens.len());
        self.segments.push(Segment {
            queries: queries.clone(),
            keys,
        });
        queries
    }

    /// Requests the logits of a row of the pass. Returns their index among the pass's logits.
    pub fn output(&mut self, row: usize) -> usize {
        self.outputs.push(row as u32);
        self.outputs.len() - 1
    }

    /// Requests the log-probabilities of a response, whose first token is predicted by the row `before` and whose own
    /// rows are `rows`. Returns their indices among the pass's log-probabilities.
    pub fn score(&mut self, before: usize, rows: Range<usize>, response: &[Token]) -> Range<usize> {
        let first = self.scored.targets.len();
        let predictors = std::iter::once(before).chain(rows).take(response.len());
        let targets = response.iter().map(|&token| token as u32);
        self.scored.targets.extend(targets);
        let predictors = predictors.map(|row| row as u32);
        self.scored.predictors.extend(predictors);
        first..self.scored.targets.len()
    }
}

/// The memories of all blocks.
pub(super) enum KvCache<'a> {
    /// In main memory, for our own operations.
    Own(Vec<Memory>),
    /// On the device of candle's operations, with the model's copy there.
    Candle(&'a CandleModel, candle::CandleCache),
}

impl<'a> KvCache<'a> {
    /// A cache of `rows` rows.
    pub fn new(model: &'a TrainModel, rows: usize) -> Result<Self> {
        Ok(match model.candle() {
            Some(candle) => Self::Candle(candle, candle.cache(rows)?),
            None => Self::Own(model.memories(rows)),
        })
    }

    /// Frees the states of `rows`, which a new prompt will have.
    pub fn forget(&mut self, rows: &Range<usize>) {
        match self {
            Self::Own(memories) => {
                (memories.iter_mut()).for_each(|memory| memory.forget(rows.clone()));
            }
            Self::Candle(_, cache) => cache.forget(rows),
        }
    }

    /// Runs the pass, and adds its rows to the cache. Returns `[t, n_embd]`, before the last norm.
    pub fn run(
        &mut self,
        model: &TrainModel,
        lora: Option<&Lora>,
        pass: &Pass,
    ) -> Result<Vec<f32>> {
        let tokens = (pass.tokens.as_slice(), pass.positions.as_slice());
        let (segments, rows) = (&pass.segments, pass.cache_rows.as_slice());
        match self {
            Self::Own(memories) => model.run(tokens, segments, lora, Some((memories, rows))),
            Self::Candle(candle, cache) => candle.run_cached(lora, tokens, (cache, rows), segments),
        }
    }
}
