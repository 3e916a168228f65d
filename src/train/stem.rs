//! The beginning of the model: from token ids and positions to what the blocks are given, which is the embedded tokens,
//! the rotations of their positions, and the window of each block's attention.
//!
//! Both implementations of the blocks ([`super::model`] and [`super::candle`]) start from it.

use std::sync::Arc;

use super::family::Family;
use super::layer_inputs::LayerInputs;
use super::ops::linear::FrozenWeight;
use super::ops::rope::{Rope, Ropes};
use super::rotary::RopeSettings;
use super::shape::Shape;
use crate::llama::Token;
use crate::{Error, Result};

/// A model without its blocks and its head.
pub(super) struct Stem {
    pub family: &'static Family,
    pub shape: Shape,
    /// The token embedding, `[n_vocab, n_embd]`.
    pub embedding: FrozenWeight,
    /// Divisors of the rotary frequencies in blocks with full attention, `[n_rot / 2]`, where the file has them
    /// (Llama 3, Phi-3, Gemma 4).
    pub rope_divisors: Option<Vec<f32>>,
    /// The weights that make the blocks' own inputs, if they have some.
    pub layer_inputs: Option<LayerInputs>,
}

impl Stem {
    /// The embedded tokens, `[t, n_embd]`.
    ///
    /// # Errors
    /// A token id is beyond the vocabulary.
    pub fn embed(&self, tokens: &[Token]) -> Result<Vec<f32>> {
        let mut x = Vec::with_capacity(tokens.len() * self.shape.n_embd);
        for &token in tokens {
            match usize::try_from(token) {
                Ok(id) if id < self.shape.n_vocab => x.extend(self.embedding.row(id)),
                _ => {
                    return Err(Error::Train(format!(
                        "the token id {token} is beyond the vocabulary"
                    )));
                }
            }
        }
        if let Some(scale) = self.shape.embedding_scale {
            x.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(x)
    }

    /// The blocks' own inputs, `[t, n_input]` each, of embedded tokens `x`, `[t, n_embd]`; none if the blocks have none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn inputs(&self, tokens: &[Token], x: &[f32]) -> Result<Vec<Arc<Vec<f32>>>> {
        match &self.layer_inputs {
            Some(inputs) => inputs.of(tokens, x),
            None => Ok(Vec::new()),
        }
    }

    /// The window of a block's attention: the most keys that a query sees, its own among them. `None` for full
    /// attention.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let sliding = self.shape.sliding.as_ref()?;
        sliding.has(layer).then_some(sliding.window)
    }

    /// The windows of both kinds of attention that the model has.
    pub fn windows(&self) -> ByWindow<Option<usize>> {
        ByWindow {
            full: None,
            sliding: (self.shape.sliding.as_ref()).map(|sliding| Some(sliding.window)),
        }
    }

    /// The rotations of rows at `positions`, `[t]`.
    pub fn ropes(&self, positions: &[usize]) -> ByWindow<Ropes> {
        ByWindow {
            full: self.rope(positions, self.shape.rope, self.rope_divisors.as_deref()),
            sliding: (self.shape.sliding.as_ref())
                .map(|sliding| self.rope(positions, sliding.rope, None)),
        }
    }

    fn rope(&self, positions: &[usize], settings: RopeSettings, divisors: Option<&[f32]>) -> Ropes {
        let k = Arc::new(Rope::new(
            positions,
            (&settings.frequencies(divisors), settings.magnitude),
            self.family.pairs,
            settings.head_dim,
        ));
        let q = match self.shape.temperature {
            Some(temperature) => {
                let rope = Rope::clone(&k);
                Arc::new(rope.times(&temperature.factors(positions)))
            }
            None => Arc::clone(&k),
        };
        Ropes { q, k }
    }

    /// The rotation of a block, of those of both kinds of attention; `None` for a block without one.
    pub fn rotation<'r, T>(&self, ropes: &'r ByWindow<T>, layer: usize) -> Option<&'r T> {
        self.shape.rotates[layer].then(|| ropes.get(self.window(layer)))
    }
}

/// A value for blocks with full attention, and another for those with sliding attention, where the model has these.
pub(super) struct ByWindow<T> {
    full: T,
    sliding: Option<T>,
}

impl<T> ByWindow<T> {
    /// The value for a block with this window.
    pub fn get(&self, window: Option<usize>) -> &T {
        match &self.sliding {
            Some(sliding) if window.is_some() => sliding,
            _ => &self.full,
        }
    }

    /// Applies `f` to each value.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map<U, E>(self, f: impl Fn(T) -> Result<U, E>) -> Result<ByWindow<U>, E> {
        Ok(ByWindow {
            full: f(self.full)?,
            sliding: self.sliding.map(f).transpose()?,
        })
    }
}
