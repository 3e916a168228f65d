//! The sequences of a model, and the texts that they belong to.

use std::cmp::Reverse;

use super::{GRAIN, n_keepable};
use crate::decode::SequenceSource;
use crate::decode::schedule::common_len;
use crate::llama::Token;

/// The number of a model in a [`Batch`](super::Batch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(pub(super) usize);

/// One sequence of one model.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub model: ModelId,
    pub sequence: usize,
}

/// A model with its sequences, each either taken by a text or free. A free sequence may still hold the tokens of the text
/// that it was taken by last; only a text of the same owner reuses them.
pub(super) struct Slots<S> {
    pub source: S,
    uses: Vec<Use>,
}

/// How a sequence is used.
#[derive(Clone, Default)]
struct Use {
    taken: bool,
    /// The owner of the text whose tokens it holds, if they may be reused.
    owner: Option<u64>,
    /// The time at which it became free, counted in texts that had ended.
    freed: u64,
}

impl<S: SequenceSource> Slots<S> {
    pub fn new(source: S) -> Self {
        let uses = vec![Use::default(); source.n_sequences()];
        Self { source, uses }
    }

    /// Whether all sequences are free.
    pub fn are_free(&self) -> bool {
        self.uses.iter().all(|usage| !usage.taken)
    }

    /// Whether a sequence is free.
    pub fn has_room(&self) -> bool {
        self.uses.iter().any(|usage| !usage.taken)
    }

    /// Takes the free sequence that holds the longest prefix of `prompt` from a text of `owner`; if none does, an empty one,
    /// or else the least recently used. Keeps that prefix in the sequence, though never all of `prompt`, and removes the
    /// rest. Returns the number of the sequence.
    ///
    /// # Panics
    ///
    /// If no sequence is free.
    pub fn take(&mut self, prompt: &[Token], owner: Option<u64>) -> usize {
        let reusable = |(number, usage): (usize, &Use)| {
            let is_own = owner.is_some() && usage.owner == owner;
            let tokens = self.source.tokens(number);
            let common = common_len(tokens, prompt);
            // A chat's next turn goes on from all that was read. When its request is repeated, the other case applies, and the
            // last pass begins where it did before.
            let len = if common == tokens.len() && common < n_keepable(prompt) {
                common
            } else {
                common.min(n_keepable(prompt)) / GRAIN * GRAIN
            };
            (number, if is_own { len } else { 0 })
        };
        let free = self.uses.iter().enumerate().filter(|it| !it.1.taken);
        let longest = free.map(reusable).max_by_key(|&(number, len)| {
            let is_empty = self.source.tokens(number).is_empty();
            (len, is_empty, Reverse(self.uses[number].freed))
        });
        let (number, len) = longest.expect("a free sequence");
        self.source.truncate(number, len);
        self.uses[number] = Use {
            taken: true,
            owner,
            freed: 0,
        };
        number
    }

    /// Frees a sequence at the time `now`, and empties it if it has no owner.
    pub fn free(&mut self, number: usize, now: u64) {
        let usage = &mut self.uses[number];
        (usage.taken, usage.freed) = (false, now);
        if usage.owner.is_none() {
            self.source.truncate(number, 0);
        }
    }

    /// Empties the free sequences that hold tokens of `owner`'s texts. The sequences of running texts are emptied when they
    /// become free.
    pub fn forget(&mut self, owner: u64) {
        for (number, usage) in self.uses.iter_mut().enumerate() {
            if usage.owner == Some(owner) {
                usage.owner = None;
                if !usage.taken {
                    self.source.truncate(number, 0);
                }
            }
        }
    }
}
