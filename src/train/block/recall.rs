//! The memory that a block has of earlier passes, for passes over only the newest tokens.

/// The keys and values of a block with attention, `[rows, n_head_kv · head_dim]` each.
pub struct Memory {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A block's memory in one pass.
pub struct Recall<'a> {
    pub memory: &'a mut Memory,
    /// Row of the memory that each row of the pass is written to.
    pub rows: &'a [usize],
}

impl Memory {
    /// The memory of `rows` rows for keys and values of `width` features each.
    pub fn new(rows: usize, width: usize) -> Self {
        // Zeros from the system, not copies of a vector: rows that are never written then take no memory.
        Self {
            keys: vec![0.0; rows * width],
            values: vec![0.0; rows * width],
        }
    }
}

impl Recall<'_> {
    /// Adds the keys and values of the pass, `[t, width]` each. Returns those of all rows.
    pub fn keys_and_values(&mut self, k: &[f32], v: &[f32]) -> (&[f32], &[f32]) {
        let Memory { keys, values } = self.memory;
        store(keys, k, self.rows);
        store(values, v, self.rows);
        (keys, values)
    }
}

/// Copies each row of `new` to its row of `all`.
fn store(all: &mut [f32], new: &[f32], rows: &[usize]) {
    let width = new.len() / rows.len().max(1);
    for (new, &row) in new.chunks_exact(width).zip(rows) {
        all[row * width..(row + 1) * width].copy_from_slice(new);
    }
}
