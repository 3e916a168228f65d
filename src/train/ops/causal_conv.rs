//! Causal depthwise convolution over packed sequences: `y_t = Σ_l w_l ∘ x_{t−l}`, for `l` from 0 to `K − 1`, with a frozen
//! kernel of `K` taps for each channel. Before the beginning of a sequence, `x` is 0.
//!
//! The gradient is the convolution in the other direction: `dx_t = Σ_l w_l ∘ dy_{t+l}`. The state that a row hands to the
//! next are the inputs of the last `K − 1` rows.

use rayon::prelude::*;

use super::lineage::{Lineage, Predecessor};

/// A convolution with its frozen kernel.
pub struct CausalConv {
    /// `w`, `[K, channels]`, that of the newest row first.
    taps: Vec<f32>,
    n_channels: usize,
}

impl CausalConv {
    /// A convolution with `kernel`, `[channels, K]`, the oldest row's tap first, as GGUF files have it.
    pub fn new(kernel: &[f32], n_channels: usize) -> Self {
        let n_taps = kernel.len() / n_channels;
        let tap = |i: usize| kernel[i % n_channels * n_taps + n_taps - 1 - i / n_channels];
        Self {
            taps: (0..kernel.len()).map(tap).collect(),
            n_channels,
        }
    }

    /// Number of values of a state, `[K − 1, channels]`.
    pub fn state_len(&self) -> usize {
        self.taps.len() - self.n_channels
    }

    /// The convolution of `x`, `[t, channels]`, and the state after each segment. `earlier` gives the state after a row of
    /// an earlier pass.
    pub fn forward<'s>(
        &self,
        x: &[f32],
        lineage: &Lineage,
        earlier: impl Fn(usize) -> Option<&'s [f32]>,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let c = self.n_channels;
        let states = self.states(x, lineage, earlier);
        let places = lineage.places(x.len() / c);
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(c).enumerate().for_each(|(row, y)| {
            let (segment, place) = places[row];
            for (l, tap) in self.taps.chunks_exact(c).enumerate() {
                let x = if l <= place {
                    &x[(row - l) * c..][..c]
                } else {
                    // Row −1 is the last one of the state.
                    &states[segment].0[self.state_len() - (l - place) * c..][..c]
                };
                let products = tap.iter().zip(x).map(|(w, x)| w * x);
                y.iter_mut().zip(products).for_each(|(y, wx)| *y += wx);
            }
        });
        (y, states.into_iter().map(|(_, after)| after).collect())
    }

    /// The states before and after each segment.
    fn states<'s>(
        &self,
        x: &[f32],
        lineage: &Lineage,
        earlier: impl Fn(usize) -> Option<&'s [f32]>,
    ) -> Vec<(Vec<f32>, Vec<f32>)> {
        let (c, len) = (self.n_channels, self.state_len());
        let mut states: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
        for link in lineage.links() {
            let before = match link.before {
                Predecessor::Nothing => None,
                Predecessor::Segment(index) => Some(states[index].1.clone()),
                Predecessor::Earlier { row, .. } => earlier(row).map(<[f32]>::to_vec),
            };
            let before = before.unwrap_or_else(|| vec![0.0; len]);
            let own = &x[link.rows.start * c..link.rows.end * c];
            let own = &own[own.len().saturating_sub(len)..];
            let after = [&before[own.len()..], own].concat();
            states.push((before, after));
        }
        states
    }

    /// The gradient of `x` from `dy`, `[t, channels]` each. No row goes on from an earlier pass.
    pub fn backward(&self, dy: &[f32], lineage: &Lineage) -> Vec<f32> {
        let (c, len) = (self.n_channels, self.state_len());
        let places = lineage.places(dy.len() / c);
        let links = lineage.links();
        let mut dx = vec![0.0; dy.len()];
        dx.par_chunks_mut(c).enumerate().for_each(|(row, dx)| {
            let end = links[places[row].0].rows.end;
            let rows = self
                .taps
                .chunks_exact(c)
                .zip(dy[row * c..end * c].chunks_exact(c));
            for (tap, dy) in rows {
                let products = tap.iter().zip(dy).map(|(w, dy)| w * dy);
                dx.iter_mut().zip(products).for_each(|(dx, wdy)| *dx += wdy);
            }
        });
        // The gradients of the states after the segments, from those that go on from them.
        let mut d_states = vec![vec![0.0; len]; links.len()];
        for (index, link) in links.iter().enumerate().rev() {
            let n_rows = link.rows.len();
            // The gradients of the state before the segment, and of its rows, in one row of time.
            let mut d_before = vec![0.0; len];
            let after = std::mem::take(&mut d_states[index]);
            for (i, d) in after.chunks_exact(c).enumerate() {
                let place = i + n_rows;
                let n_state = len / c;
                let to = if place >= n_state {
                    &mut dx[(link.rows.start + place - n_state) * c..][..c]
                } else {
                    &mut d_before[place * c..][..c]
                };
                to.iter_mut().zip(d).for_each(|(to, d)| *to += d);
            }
            let Predecessor::Segment(parent) = link.before else {
                continue;
            };
            for (place, dy) in dy[link.rows.start * c..link.rows.end * c]
                .chunks_exact(c)
                .enumerate()
                .take(len / c)
            {
                for (l, tap) in self.taps.chunks_exact(c).enumerate().skip(place + 1) {
                    let d = &mut d_before[len - (l - place) * c..][..c];
                    let products = tap.iter().zip(dy).map(|(w, dy)| w * dy);
                    d.iter_mut().zip(products).for_each(|(d, wdy)| *d += wdy);
                }
            }
            let total = d_states[parent].iter_mut().zip(d_before);
            total.for_each(|(total, d)| *total += d);
        }
        dx
    }
}

#[cfg(test)]
mod tests {
    use super::super::attention::Segment;
    use super::super::finite_differences::{assert_gradient, values};
    use super::*;

    const CHANNELS: usize = 5;
    const TAPS: usize = 4;

    /// A prompt, two continuations of it of which one is shorter than the kernel, a continuation of that, and a sequence
    /// that stands alone.
    pub fn segments() -> Vec<Segment> {
        let segment = |keys: &[std::ops::Range<usize>]| Segment {
            keys: keys.to_vec(),
            queries: keys[keys.len() - 1].clone(),
        };
        vec![
            segment(&[0..0, 0..6]),
            segment(&[0..6, 6..8]),
            segment(&[0..6, 8..13]),
            segment(&[0..6, 6..8, 13..14]),
            segment(&[0..0, 14..16]),
        ]
    }

    fn conv() -> (Vec<f32>, CausalConv) {
        let kernel = values(CHANNELS * TAPS, 1);
        let conv = CausalConv::new(&kernel, CHANNELS);
        (kernel, conv)
    }

    #[test]
    fn it_agrees_with_the_formula() {
        let (kernel, conv) = conv();
        let (segments, x) = (segments(), values(16 * CHANNELS, 2));
        let (y, _) = conv.forward(&x, &Lineage::new(&segments), |_| None);
        for segment in &segments {
            let keys: Vec<usize> = segment.keys.iter().cloned().flatten().collect();
            let first = keys.len() - segment.queries.len();
            for (i, row) in segment.queries.clone().enumerate() {
                for channel in 0..CHANNELS {
                    let product = |l: usize| {
                        let row = (first + i).checked_sub(l).map(|at| keys[at]);
                        let x = row.map_or(0.0, |row| x[row * CHANNELS + channel]);
                        kernel[channel * TAPS + TAPS - 1 - l] * x
                    };
                    let expected: f32 = (0..TAPS).map(product).sum();
                    assert!((y[row * CHANNELS + channel] - expected).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn its_gradient_is_the_finite_difference() {
        let (_, conv) = conv();
        let lineage = Lineage::new(&segments());
        let (x, dy) = (values(16 * CHANNELS, 3), values(16 * CHANNELS, 4));
        let dx = conv.backward(&dy, &lineage);
        assert_gradient(&x, &dy, &dx, |x| conv.forward(x, &lineage, |_| None).0);
    }

    #[test]
    fn it_goes_on_from_the_state_of_an_earlier_pass() {
        let (_, conv) = conv();
        let x = values(9 * CHANNELS, 5);
        let segment = |keys: std::ops::Range<usize>, queries| Segment {
            keys: vec![keys],
            queries,
        };
        let whole = Lineage::new(&[segment(0..9, 0..9)]);
        let (expected, _) = conv.forward(&x, &whole, |_| None);
        let (head, rest) = x.split_at(2 * CHANNELS);
        let (mut y, states) = conv.forward(head, &Lineage::new(&[segment(0..2, 0..2)]), |_| None);
        let later = Lineage::new(&[segment(0..9, 0..7)]);
        let (later, _) = conv.forward(rest, &later, |row| (row == 1).then_some(&*states[0]));
        y.extend(later);
        assert_eq!(y, expected);
    }
}
