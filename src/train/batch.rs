//! Packed batches: the tokens of several sequences one after the other, without padding.
//!
//! A prompt's rows are followed by those of its responses, one or several, which share them:
//!
//! ```text
//! rows       p₀ p₁ p₂ │ y₀ y₁ │ z₀ z₁ z₂
//! positions  0  1  2  │ 3  4  │ 3  4  5
//! sees       itself   │ p, y  │ p, z
//! predicts         y₀ z₀  y₁ ·  z₁ z₂ ·
//! ```
//!
//! What all prompts of a batch begin with, such as a chat template's system prompt, can stand before them once.

use std::ops::Range;
use std::sync::Arc;

use super::ops::attention::Segment;
use crate::llama::Token;

/// Rows of tokens, where each stands in its sequence, and what it sees.
#[derive(Clone, Debug, Default)]
pub struct PackedRows {
    /// Token ids, `[t]`.
    pub tokens: Vec<Token>,
    /// Place of each in its sequence, `[t]`.
    pub positions: Vec<usize>,
    /// Which rows see which.
    pub segments: Arc<Vec<Segment>>,
}

/// What several prompts begin with; of a single one, nothing. The last token of each is not in it: it predicts the
/// response.
pub(super) fn common_prefix<'a>(prompts: impl IntoIterator<Item = &'a [Token]>) -> &'a [Token] {
    let mut prompts = prompts.into_iter().peekable();
    let Some(first) = prompts.next().filter(|_| prompts.peek().is_some()) else {
        return &[];
    };
    let own = |prompt: &[Token]| prompt.len().saturating_sub(1);
    let common = prompts.fold(own(first), |common, prompt| {
        let same = first.iter().zip(prompt).take_while(|(x, y)| x == y);
        same.count().min(common).min(own(prompt))
    });
    &first[..common]
}

/// Rows together with the responses to be scored in them.
#[derive(Clone, Debug, Default)]
pub struct PackedBatch {
    /// What the model runs on.
    pub rows: PackedRows,
    /// Row of the hidden state that predicts each response token, `[r]`.
    pub predictors: Vec<u32>,
    /// The response tokens, `[r]`.
    pub targets: Vec<u32>,
    /// The part of `targets` that each response holds, in the order of [`PackedBatch::push`].
    pub responses: Vec<Range<usize>>,
    /// Rows that every prompt begins with.
    shared: Range<usize>,
}

impl PackedBatch {
    /// A batch for these prompts, which are to be pushed: what they all begin with is in it once.
    pub fn sharing<'a>(prompts: impl IntoIterator<Item = &'a [Token]>) -> Self {
        let mut batch = Self::default();
        batch.shared = batch.push_rows(common_prefix(prompts), 0, Vec::new());
        batch
    }

    /// Adds a prompt with its responses.
    ///
    /// # Panics
    /// The prompt is empty: the first token of a response is predicted from its last. Or it is none of those that the
    /// batch was made for.
    pub fn push<'a>(&mut self, prompt: &[Token], responses: impl IntoIterator<Item = &'a [Token]>) {
        assert!(!prompt.is_empty(), "a prompt without tokens");
        let (shared, own) = prompt.split_at(self.shared.len());
        assert_eq!(
            shared,
            &self.rows.tokens[self.shared.clone()],
            "a prompt with another beginning"
        );
        let own = self.push_rows(own, shared.len(), vec![self.shared.clone()]);
        for response in responses {
            // The last token of a response predicts nothing that is scored, so it needs no row.
            let inputs = &response[..response.len().saturating_sub(1)];
            let before = vec![self.shared.clone(), own.clone()];
            let rows = self.push_rows(inputs, prompt.len(), before);
            let first = self.targets.len();
            let predictors = std::iter::once(own.end - 1)
                .chain(rows)
                .take(response.len());
            self.predictors.extend(predictors.map(|row| row as u32));
            self.targets
                .extend(response.iter().map(|&token| token as u32));
            self.responses.push(first..self.targets.len());
        }
    }

    /// Number of rows.
    pub fn n_tokens(&self) -> usize {
        self.rows.tokens.len()
    }

    fn push_rows(
        &mut self,
        tokens: &[Token],
        position: usize,
        mut keys: Vec<Range<usize>>,
    ) -> Range<usize> {
        let rows = self.rows.tokens.len()..self.rows.tokens.len() + tokens.len();
        if !rows.is_empty() {
            self.rows.tokens.extend(tokens);
            self.rows
                .positions
                .extend(position..position + tokens.len());
            keys.push(rows.clone());
            let queries = rows.clone();
            Arc::make_mut(&mut self.rows.segments).push(Segment { queries, keys });
        }
        rows
    }
}
