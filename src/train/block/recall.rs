//! The memory that a block has of earlier passes, for passes over only the newest tokens.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::ops::lineage::{Lineage, Predecessor};
use super::key_values::KeysAndValues;

/// The memory of a block, by its mixer.
pub enum Memory {
    /// The keys and values of attention, of all rows.
    KeysAndValues(KeysAndValues),
    /// The states of another mixer, by the row after which each is.
    States(BTreeMap<usize, Vec<f32>>),
}

/// A block's memory in one pass.
pub struct Recall<'a> {
    pub memory: &'a mut Memory,
    /// Row of the memory that each row of the pass is written to.
    pub rows: &'a [usize],
}

impl Memory {
    /// The memory of `rows` rows for keys and values of `width` features each.
    pub fn keys_and_values(rows: usize, width: usize) -> Self {
        // Zeros from the system, not copies of a vector: rows that are never written then take no memory.
        Self::KeysAndValues(KeysAndValues {
            keys: vec![0.0; rows * width],
            values: vec![0.0; rows * width],
        })
    }

    /// The memory of states, of which there are none yet.
    pub fn states() -> Self {
        Self::States(BTreeMap::new())
    }

    /// Frees the states after `rows`, from which no sequence will go on.
    pub fn forget(&mut self, rows: Range<usize>) {
        if let Self::States(states) = self {
            states.retain(|row, _| !rows.contains(row));
        }
    }
}

impl Recall<'_> {
    /// Adds the keys and values of the pass.
    pub fn add_keys(&mut self, new: &KeysAndValues) {
        let rows = self.rows;
        if let Memory::KeysAndValues(KeysAndValues { keys, values }) = self.memory {
            store(keys, &new.keys, rows);
            store(values, &new.values, rows);
        }
    }

    /// The keys and values of all rows.
    ///
    /// # Panics
    /// The memory is one of states.
    pub fn keys(&self) -> &KeysAndValues {
        match &*self.memory {
            Memory::KeysAndValues(all) => all,
            Memory::States(_) => panic!("a block with attention remembers keys and values"),
        }
    }

    /// The state after a row.
    pub fn state(&self, row: usize) -> Option<&[f32]> {
        match &*self.memory {
            Memory::States(states) => states.get(&row).map(Vec::as_slice),
            Memory::KeysAndValues(_) => None,
        }
    }

    /// Keeps the states after the segments of the pass, in their order.
    pub fn keep_states(&mut self, lineage: &Lineage, states_after: Vec<Vec<f32>>) {
        let Memory::States(states) = self.memory else {
            return;
        };
        for (link, state) in lineage.links().iter().zip(states_after) {
            if let Predecessor::Earlier { row, is_own: true } = link.before {
                states.remove(&row);
            }
            states.insert(link.last, state);
        }
    }
}

/// Copies each row of `new` to its row of `all`.
fn store(all: &mut [f32], new: &[f32], rows: &[usize]) {
    let width = new.len() / rows.len().max(1);
    for (new, &row) in new.chunks_exact(width).zip(rows) {
        all[row * width..(row + 1) * width].copy_from_slice(new);
    }
}
