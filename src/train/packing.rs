//! Packed batches: the tokens of several sequences one after the other, without padding.
//!
//! The rows of a prompt are followed by those of its responses, one or several, which share the prompt's rows:
//!
//! ```text
//! rows       p₀ p₁ p₂ │ y₀ y₁ │ z₀ z₁ z₂
//! positions  0  1  2  │ 3  4  │ 3  4  5
//! sees       itself   │ p, y  │ p, z
//! predicts         y₀ z₀  y₁ ·  z₁ z₂ ·
//! ```
//!
//! The common prefix of all prompts of a batch, such as a chat template's system prompt, can be shared in the same way.

use std::ops::Range;
use std::sync::Arc;

use super::ops::attention::Segment;
use crate::llama::Token;

/// Tokens with their positions, and which of them see which.
#[derive(Clone, Debug, Default)]
pub struct PackedRows {
    /// Token ids, `[t]`.
    pub tokens: Vec<Token>,
    /// Position of each token in its sequence, from 0, `[t]`.
    pub positions: Vec<usize>,
    /// The sequences, which say which rows see which.
    pub segments: Arc<Vec<Segment>>,
}

/// The common prefix of several prompts; empty for a single prompt. It leaves out each prompt's last token, whose row
/// predicts the response.
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

/// Rows of prompts and responses, and the response tokens to be scored.
#[derive(Clone, Debug, Default)]
pub struct PackedBatch {
    /// The rows that the model runs on.
    pub rows: PackedRows,
    /// The row that predicts each response token, `[r]`.
    pub predictors: Vec<u32>,
    /// The response tokens, `[r]`.
    pub targets: Vec<u32>,
    /// The range of `targets` that each response has, in the order of [`PackedBatch::push`].
    pub responses: Vec<Range<usize>>,
    /// Rows of the prompts' common prefix.
    shared: Range<usize>,
}

impl PackedBatch {
    /// A batch for these prompts, which the caller then pushes. Their common prefix is in it only once.
    pub fn sharing<'a>(prompts: impl IntoIterator<Item = &'a [Token]>) -> Self {
        let mut batch = Self::default();
        batch.shared = batch.push_rows(common_prefix(prompts), 0, Vec::new());
        batch
    }

    /// Adds a prompt with its responses.
    ///
    /// # Panics
    /// The prompt is empty (its last token predicts the first of a response), or it does not begin with the prefix that
    /// the batch was made for.
    pub fn push<'a>(&mut self, prompt: &[Token], responses: impl IntoIterator<Item = &'a [Token]>) {
        assert!(!prompt.is_empty(), "the prompt is empty");
        let (shared, own) = prompt.split_at(self.shared.len());
        assert_eq!(
            shared,
            &self.rows.tokens[self.shared.clone()],
            "the prompt does not begin with the shared prefix"
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

    /// Number of tokens, which is the number of rows.
    pub fn n_tokens(&self) -> usize {
        self.rows.tokens.len()
    }

    /// Adds consecutive tokens of one sequence, the first at `position`, which see the rows `keys` and each other.
    /// Returns their rows.
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
