//! The memory of a context, which is measured before the context is made, since a process that takes more memory than there
//! is does not fail in order: the system ends it while it fills its buffers.
//!
//! llama.cpp itself says what a context takes: a model that was loaded without its weights makes contexts whose buffers
//! have sizes and no memory. On a GPU the contexts lie in its memory, and its driver refuses what does not fit.

use std::ptr::NonNull;
use std::sync::Arc;

use super::system::free_memory;
use super::{ContextOptions, Model, devices, exclusive, log, sys};
use crate::error::MemoryUser;
use crate::{Error, Result};

/// Contexts with this many times the bytes of their cache, and [`PLENTY`] more, are made without being measured, which would
/// take as long as reading the model's vocabulary.
const MANY_CACHES: u64 = 4;
/// A gibibyte.
const PLENTY: u64 = 1 << 30;

/// Bytes of llama.cpp's account of each token that a cache has room for: position, shift, place in an image, and the set of
/// its sequences. A measurement takes them too.
const CELL: u64 = 4 + 4 + 8 + 32;

/// The part of a context's buffers that operations need beside them while they run: full contexts of two models took up to
/// 9 % more than the buffers that llama.cpp names.
const WORK: u64 = 10;

/// Refuses a context of `n_sequences` sequences, each of the size of `options`, that takes more host memory than is free.
/// A context that just fits is allowed, since other programs may give memory back.
pub(super) fn check(model: &Arc<Model>, options: &ContextOptions, n_sequences: u32) -> Result<()> {
    if devices().iter().any(|device| device.is_gpu) {
        return Ok(());
    }
    let Some(free) = options.free_memory.or_else(free_memory) else {
        return Ok(());
    };
    let caches = options
        .kv_bytes(model)
        .saturating_mul(u64::from(n_sequences));
    let plainly_enough = caches.saturating_mul(MANY_CACHES).saturating_add(PLENTY);
    if plainly_enough <= free {
        return Ok(());
    }
    let cells = CELL * u64::from(options.padded_ctx(model)) * u64::from(n_sequences);
    let needed = if cells > free {
        Some(cells.saturating_add(caches))
    } else {
        let key = format!("{options:?}, {n_sequences}");
        model.context_size(key, || {
            measure(model, options, n_sequences).map(|buffers| buffers + cells)
        })
    };
    match needed {
        Some(needed) if needed > free => Err(Error::NoRoom {
            user: MemoryUser::Context {
                n_ctx: options.padded_ctx(model),
                n_sequences,
            },
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

/// The bytes of a context's buffers, and of the work in them. `None` if llama.cpp does not make such a context, for a reason that it will give when
/// it is asked for the real one.
fn measure(model: &Model, options: &ContextOptions, n_sequences: u32) -> Option<u64> {
    let empty = Model::load_without_weights(model.path()).ok()?;
    let params = options.params(&empty, n_sequences);
    let n_outputs = u64::from(params.n_outputs_max);
    let _guard = exclusive();
    log::forget();
    // SAFETY: the model is live; the parameters are plain values whose pointers are null; and no other context is being
    // created (`exclusive`).
    let raw = unsafe { sys::llama_init_from_model(empty.raw(), params) };
    let raw = NonNull::new(raw)?;
    // SAFETY: the context is live, and nothing else knows it.
    unsafe { sys::llama_free(raw.as_ptr()) };
    // The first pass makes the buffer of its outputs larger.
    let outputs = n_outputs * model.n_vocab() as u64 * size_of::<f32>() as u64;
    let buffers = log::host_bytes() + outputs;
    Some(buffers + buffers / WORK)
}
