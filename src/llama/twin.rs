//! The two contexts of contrastive decoding.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Context, ContextOptions, LoraAdapter, Model};
use crate::Result;

/// Base and user over one copy of the weights: two KV caches, one of them seen through the user's adapter.
#[derive(Debug)]
pub struct Twin {
    /// `π_base`: the model alone.
    pub base: Context,
    /// `π_user`: the model with the user's adapter.
    pub user: Context,
}

impl Twin {
    /// Both contexts, alike but for their adapters: the base's, if it is one with a task, and the user's, applied at
    /// llama.cpp's run-time factor `scale` (1 for as trained).
    ///
    /// # Errors
    ///
    /// As [`Context::new`].
    pub fn new(
        model: &Arc<Model>,
        task: Option<Arc<LoraAdapter>>,
        adapter: Arc<LoraAdapter>,
        scale: f32,
        options: &ContextOptions,
    ) -> Result<Self> {
        let base = Context::new(model, task.map(|task| (task, 1.0)), options)?;
        let user = Context::new(model, Some((adapter, scale)), options)?;
        Ok(Self { base, user })
    }

    /// [`Context::set_interrupt`] for both.
    pub fn set_interrupt(&mut self, flag: &Arc<AtomicBool>) {
        self.base.set_interrupt(Arc::clone(flag));
        self.user.set_interrupt(Arc::clone(flag));
    }
}
