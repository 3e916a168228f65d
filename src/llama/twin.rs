//! The two contexts of contrastive decoding.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Context, ContextOptions, LoraAdapter, Model, devices};
use crate::Result;

/// The most tokens in a pass of the base on a CPU. More of them would read a prompt at most a tenth faster, and a
/// context's compute buffers grow with them: for a small model and 128 tokens they are a third of a KV cache.
const BASE_BATCH: u32 = 32;

/// Base and user over one copy of the weights: two KV caches, one of them seen through the user's adapter.
#[derive(Debug)]
pub struct Twin {
    /// `π_base`: the model alone.
    pub base: Context,
    /// `π_user`: the model with the user's adapter.
    pub user: Context,
}

impl Twin {
    /// Both contexts, alike but for their adapters (the base's, if it is one with a task, and the user's, applied at
    /// llama.cpp's run-time factor `scale`, 1 for as trained) and for the base's passes, which are shorter on a CPU.
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
        let n_batch = if devices().iter().any(|device| device.is_gpu) {
            options.n_batch
        } else {
            options.n_batch.min(BASE_BATCH.max(options.n_outputs))
        };
        let of_base = ContextOptions {
            n_batch,
            ..options.clone()
        };
        let base = Context::new(model, task.map(|task| (task, 1.0)), &of_base)?;
        let user = Context::new(model, Some((adapter, scale)), options)?;
        Ok(Self { base, user })
    }

    /// [`Context::set_interrupt`] for both.
    pub fn set_interrupt(&mut self, flag: &Arc<AtomicBool>) {
        self.base.set_interrupt(Arc::clone(flag));
        self.user.set_interrupt(Arc::clone(flag));
    }
}
