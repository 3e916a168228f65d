//! The two contexts of contrastive decoding: base and user.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Context, ContextOptions, LoraAdapter, Model, devices};
use crate::Result;

/// The most tokens in a pass of the base on a CPU. More tokens would read a prompt at most a tenth faster, and a context's
/// compute buffers grow with them: for a small model and 128 tokens they take a third as much as a KV cache.
const BASE_BATCH: u32 = 32;

/// Base and user contexts over one copy of the weights: two KV caches, one of them with the user's adapter.
#[derive(Debug)]
pub struct Twin {
    /// `π_base`: the model alone, or with a task adapter.
    pub base: Context,
    /// `π_user`: the model with the user's adapter.
    pub user: Context,
}

impl Twin {
    /// Makes both contexts. The base has the adapter of `task`, if given; the user has `adapter` at `scale`, where 1 applies
    /// it as it was trained. On a CPU, the base's passes have fewer tokens.
    ///
    /// # Errors
    ///
    /// The errors of [`Context::new`].
    pub fn new(
        model: &Arc<Model>,
        task: Option<Arc<LoraAdapter>>,
        adapter: Arc<LoraAdapter>,
        scale: f32,
        options: &ContextOptions,
    ) -> Result<Self> {
        let n_batch = if devices().iter().any(|device| device.is_gpu) {
            options.n_batch
        } else {
            options.n_batch.min(BASE_BATCH.max(options.n_outputs))
        };
        let base_options = ContextOptions {
            n_batch,
            ..options.clone()
        };
        let base = Context::new(model, task.map(|task| (task, 1.0)), &base_options)?;
        let user = Context::new(model, Some((adapter, scale)), options)?;
        Ok(Self { base, user })
    }

    /// Makes a running pass of either context fail once `flag` is true, like [`Context::set_interrupt`].
    pub fn set_interrupt(&mut self, flag: &Arc<AtomicBool>) {
        self.base.set_interrupt(Arc::clone(flag));
        self.user.set_interrupt(Arc::clone(flag));
    }
}
