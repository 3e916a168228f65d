//! The models of a batch by their numbers.

use super::slots::{ModelId, Slot, Slots};
use crate::decode::SequenceSource;

/// A place for each model number. The place of a removed model is empty, and the next added model takes it.
pub(super) struct Models<S>(Vec<Option<Slots<S>>>);

impl<S: SequenceSource> Models<S> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn add(&mut self, source: S) -> ModelId {
        let slots = Some(Slots::new(source));
        if let Some(index) = self.0.iter().position(Option::is_none) {
            self.0[index] = slots;
            return ModelId(index);
        }
        self.0.push(slots);
        ModelId(self.0.len() - 1)
    }

    /// Removes a model, unless a text runs in it.
    pub fn remove(&mut self, model: ModelId) -> Option<S> {
        let place = self.0.get_mut(model.0)?;
        let slots = place.take_if(|slots| slots.are_free())?;
        Some(slots.source)
    }

    /// The model of this number with its sequences.
    ///
    /// # Panics
    ///
    /// If it was removed.
    pub fn get(&self, model: ModelId) -> &Slots<S> {
        self.0[model.0]
            .as_ref()
            .expect("a model that was not removed")
    }

    /// The model of this number with its sequences.
    ///
    /// # Panics
    ///
    /// If it was removed.
    pub fn get_mut(&mut self, model: ModelId) -> &mut Slots<S> {
        self.0[model.0]
            .as_mut()
            .expect("a model that was not removed")
    }

    /// The model that the slot belongs to.
    pub fn source(&self, slot: Slot) -> &S {
        &self.get(slot.model).source
    }

    /// The model that the slot belongs to.
    pub fn source_mut(&mut self, slot: Slot) -> &mut S {
        &mut self.get_mut(slot.model).source
    }

    /// Two different models at once.
    ///
    /// # Panics
    ///
    /// If the models are the same, or one was removed.
    pub fn both_mut(&mut self, one: Slot, other: Slot) -> [&mut S; 2] {
        let both = self.0.get_disjoint_mut([one.model.0, other.model.0]);
        let both = both.expect("two different models");
        both.map(|slots| &mut slots.as_mut().expect("a model that was not removed").source)
    }

    /// The numbers of all models, in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = ModelId> + use<S> {
        let there = self.0.iter().enumerate().filter(|(_, it)| it.is_some());
        let there: Vec<_> = there.map(|(index, _)| ModelId(index)).collect();
        there.into_iter()
    }
}
