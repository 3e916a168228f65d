//! The order of the value heads of a gated delta net. transformers has the value heads of a key head side by side, and
//! llama.cpp has one of each key head, then a second of each, and so on.

/// The direction in which a matrix has the value heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Along {
    /// Rows of a weight, and so of its `B`.
    Rows,
    /// Columns of a weight, and so of its `A`.
    Columns,
}

/// The places of the value heads among the rows or the columns of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueHeads {
    pub along: Along,
    /// The first place of the first head. The places before it stay where they are.
    pub first: usize,
    /// The places of a head.
    pub dim: usize,
    /// The number of key heads.
    pub n_k: usize,
    /// The number of value heads, a multiple of the number of key heads.
    pub n_v: usize,
}

impl ValueHeads {
    /// The number of all places.
    pub fn n_places(&self) -> usize {
        self.first + self.n_v * self.dim
    }

    /// Brings a row-major matrix of so many columns from transformers' order into llama.cpp's.
    pub fn tile(&self, values: &[f32], cols: usize) -> Vec<f32> {
        self.moved(values, cols, |head| {
            let (turn, key_head) = (head / self.n_k, head % self.n_k);
            key_head * (self.n_v / self.n_k) + turn
        })
    }

    /// Brings a matrix from llama.cpp's order into transformers', the inverse of [`Self::tile`].
    pub fn group(&self, values: &[f32], cols: usize) -> Vec<f32> {
        let of_key_head = self.n_v / self.n_k;
        self.moved(values, cols, |head| {
            let (key_head, turn) = (head / of_key_head, head % of_key_head);
            turn * self.n_k + key_head
        })
    }

    /// The matrix whose head `h` is the head `from(h)` of the input.
    fn moved(&self, values: &[f32], cols: usize, from: impl Fn(usize) -> usize) -> Vec<f32> {
        let place = |place: usize| match place.checked_sub(self.first) {
            None => place,
            Some(rest) => self.first + from(rest / self.dim) * self.dim + rest % self.dim,
        };
        let n_rows = values.len() / cols;
        let mut moved = Vec::with_capacity(values.len());
        for row in 0..n_rows {
            match self.along {
                Along::Columns => {
                    let row = &values[row * cols..][..cols];
                    moved.extend((0..cols).map(|col| row[place(col)]));
                }
                Along::Rows => moved.extend_from_slice(&values[place(row) * cols..][..cols]),
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_heads_are_tiled_and_grouped_again() {
        let mut heads = ValueHeads {
            along: Along::Rows,
            first: 1,
            dim: 2,
            n_k: 2,
            n_v: 6,
        };
        let theirs: Vec<f32> = (0..13).map(|i| i as f32).collect();
        // The value heads 0, 1 and 2 are those of the first key head, and 3, 4 and 5 those of the second.
        let ours = [0, 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12].map(|i| i as f32);
        assert_eq!(heads.tile(&theirs, 1), ours);
        assert_eq!(heads.group(&ours, 1), theirs);
        heads.along = Along::Columns;
        let two_rows = [ours, ours].concat();
        assert_eq!(
            heads.tile(&[theirs.clone(), theirs.clone()].concat(), 13),
            two_rows
        );
        assert_eq!(
            heads.group(&two_rows, 13),
            [theirs.clone(), theirs].concat()
        );
    }
}
