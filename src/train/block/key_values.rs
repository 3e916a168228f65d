//! Keys and values of attention. Later blocks may use those of a block beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::ops::matrix::Into;

/// Keys and values, `[t, n_head_kv · head_dim]` each, or their gradients.
#[derive(Default)]
pub struct KeysAndValues {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl KeysAndValues {
    /// Adds others of the same shape.
    pub fn add(&mut self, other: &Self) {
        Into::Add.store(&mut self.keys, other.keys.iter().copied());
        Into::Add.store(&mut self.values, other.values.iter().copied());
    }
}

/// The keys and values of a pass that later blocks use too, by the block that has made them.
#[derive(Default)]
pub struct SharedKeys(BTreeMap<usize, Arc<KeysAndValues>>);

impl SharedKeys {
    /// Those of a block.
    pub fn of(&self, layer: usize) -> Option<&Arc<KeysAndValues>> {
        self.0.get(&layer)
    }

    /// Keeps those of a block.
    pub fn keep(&mut self, layer: usize, keys: Arc<KeysAndValues>) {
        self.0.insert(layer, keys);
    }
}
