//! Which of a model's sequences is whose.

use std::cmp::Reverse;

use super::{GRAIN, n_keepable};
use crate::decode::SequenceSource;
use crate::decode::schedule::common_len;
use crate::llama::Token;

/// A model of a [`Batch`](super::Batch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(pub(super) usize);

/// A sequence of a model.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub model: ModelId,
    pub sequence: usize,
}

/// A model with its sequences, each taken by a text or free. A free one may still hold what it was last used for, for the
/// owner of that text alone.
pub(super) struct Slots<S> {
    pub source: S,
    uses: Vec<Use>,
}

/// What a sequence is used for.
#[derive(Clone, Default)]
struct Use {
    taken: bool,
    /// Whose text its tokens are, if they are kept for another.
    owner: Option<u64>,
    /// When it became free.
    freed: u64,
}

impl<S: SequenceSource> Slots<S> {
    pub fn new(source: S) -> Self {
        let uses = vec![Use::default(); source.n_sequences()];
        Self { source, uses }
    }

    /// Whether no text is in it.
    pub fn are_free(&self) -> bool {
        self.uses.iter().all(|of| !of.taken)
    }

    pub fn has_room(&self) -> bool {
        self.uses.iter().any(|of| !of.taken)
    }

    /// Takes the free sequence that has the most of `prompt` already, of `owner`'s own; else one that is empty, or was
    /// free for the longest time. What it holds is then a beginning of `prompt`, though never all of it.
    ///
    /// # Panics
    ///
    /// None is free.
    pub fn take(&mut self, prompt: &[Token], owner: Option<u64>) -> usize {
        let known = |(number, of): (usize, &Use)| {
            let is_own = owner.is_some() && of.owner == owner;
            let common = common_len(self.source.tokens(number), prompt);
            let len = common.min(n_keepable(prompt)) / GRAIN * GRAIN;
            (number, if is_own { len } else { 0 })
        };
        let free = self.uses.iter().enumerate().filter(|it| !it.1.taken);
        let best = free.map(known).max_by_key(|&(number, len)| {
            let is_empty = self.source.tokens(number).is_empty();
            (len, is_empty, Reverse(self.uses[number].freed))
        });
        let (number, len) = best.expect("a sequence that is free");
        self.source.truncate(number, len);
        self.uses[number] = Use {
            taken: true,
            owner,
            freed: 0,
        };
        number
    }

    /// Frees a sequence at the time `now`, and empties it if it is kept for nobody.
    pub fn free(&mut self, number: usize, now: u64) {
        let of = &mut self.uses[number];
        (of.taken, of.freed) = (false, now);
        if of.owner.is_none() {
            self.source.truncate(number, 0);
        }
    }

    /// Empties what is kept of `owner`'s texts.
    pub fn forget(&mut self, owner: u64) {
        for (number, of) in self.uses.iter_mut().enumerate() {
            if of.owner == Some(owner) {
                of.owner = None;
                if !of.taken {
                    self.source.truncate(number, 0);
                }
            }
        }
    }
}
