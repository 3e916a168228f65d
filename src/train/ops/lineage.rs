//! Where the segments of a pass go on from, for operations with a state that each row hands to the next.

use std::collections::HashMap;
use std::ops::Range;

use super::attention::Segment;

/// The segments of a pass, in an order in which each comes after the one that it goes on from.
pub struct Lineage {
    links: Vec<SegmentLink>,
}

/// A segment's rows, and what comes before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentLink {
    /// Rows of the pass.
    pub rows: Range<usize>,
    /// The state that the segment begins with.
    pub before: Predecessor,
    /// Row of the memory that the last row is written to, which is the row itself in a pass without memory.
    pub last: usize,
}

/// The state that a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// The empty state, at the beginning of a sequence.
    Nothing,
    /// The state after another segment of the pass, by its index.
    Segment(usize),
    /// The state after a row of an earlier pass.
    Earlier {
        /// Row of the memory.
        row: usize,
        /// Whether no other sequence goes on from there.
        is_own: bool,
    },
}

impl Lineage {
    /// The lineage of `segments`.
    pub fn new(segments: &[Segment]) -> Self {
        let mut ends = HashMap::new();
        let mut links = Vec::with_capacity(segments.len());
        for segment in segments.iter().filter(|it| !it.queries.is_empty()) {
            let n_before = segment.n_keys() - segment.queries.len();
            let mut rows = segment.keys.iter().cloned().flatten();
            let before = match n_before.checked_sub(1).and_then(|last| rows.nth(last)) {
                None => Predecessor::Nothing,
                Some(row) => match ends.get(&row) {
                    Some(&index) => Predecessor::Segment(index),
                    None => Predecessor::Earlier {
                        row,
                        is_own: (segment.keys.last()).is_some_and(|own| own.contains(&row)),
                    },
                },
            };
            let last = segment.keys.last().map_or(0, |own| own.end - 1);
            ends.insert(last, links.len());
            links.push(SegmentLink {
                rows: segment.queries.clone(),
                before,
                last,
            });
        }
        Self { links }
    }

    /// The segments, in the order of the pass.
    pub fn links(&self) -> &[SegmentLink] {
        &self.links
    }

    /// The segment of each row of the pass, and the row's index in it.
    pub fn places(&self, n_rows: usize) -> Vec<(usize, usize)> {
        let mut places = vec![(0, 0); n_rows];
        for (index, link) in self.links.iter().enumerate() {
            for (place, row) in link.rows.clone().enumerate() {
                places[row] = (index, place);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(keys: &[Range<usize>], queries: Range<usize>) -> Segment {
        Segment {
            keys: keys.to_vec(),
            queries,
        }
    }

    fn befores(segments: &[Segment]) -> Vec<Predecessor> {
        let lineage = Lineage::new(segments);
        lineage.links().iter().map(|link| link.before).collect()
    }

    #[test]
    fn continuations_go_on_from_their_prompt() {
        let segments = [
            segment(&[0..0, 0..3], 0..3),
            segment(&[0..3, 3..5], 3..5),
            segment(&[0..3, 3..5, 5..9], 5..9),
            segment(&[0..3, 3..5, 9..10], 9..10),
            segment(&[0..0, 10..12], 10..12),
        ];
        let parent = Predecessor::Segment;
        assert_eq!(
            befores(&segments),
            [
                Predecessor::Nothing,
                parent(0),
                parent(1),
                parent(1),
                Predecessor::Nothing
            ]
        );
    }

    #[test]
    fn the_newest_tokens_go_on_from_rows_of_earlier_passes() {
        // The first token of a sample after the prompt's rows 0..7, and the third of another.
        let segments = [
            segment(&[0..2, 2..7, 20..21], 0..1),
            segment(&[0..2, 2..7, 40..43], 1..2),
        ];
        let earlier = |row, is_own| Predecessor::Earlier { row, is_own };
        assert_eq!(befores(&segments), [earlier(6, false), earlier(41, true)]);
        assert_eq!(Lineage::new(&segments).links()[1].last, 42);
    }
}
