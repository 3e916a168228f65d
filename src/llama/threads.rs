//! Threads that a context keeps from pass to pass.

use std::ptr::NonNull;

use super::sys;

/// A pool of ggml's worker threads. Without one ggml starts its threads anew for each pass, which on a busy machine takes
/// several times as long; and workers that wait for the next pass sleep, since spinning would take a core from others.
#[derive(Debug)]
pub(super) struct Threads {
    raw: NonNull<sys::ggml_threadpool>,
}

// SAFETY: a pool belongs to no thread; one context alone uses it.
unsafe impl Send for Threads {}

impl Threads {
    /// A pool of `n_threads`, of which the caller of a pass is one; `None` if there is none to keep.
    pub fn new(n_threads: i32) -> Option<Self> {
        if n_threads < 2 {
            return None;
        }
        // SAFETY: takes and returns plain values, and a pointer to one of them.
        let raw = unsafe {
            let mut params = sys::ggml_threadpool_params_default(n_threads);
            params.poll = 0;
            sys::ggml_threadpool_new(&raw mut params)
        };
        NonNull::new(raw).map(|raw| Self { raw })
    }

    pub fn raw(&self) -> *mut sys::ggml_threadpool {
        self.raw.as_ptr()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // SAFETY: the pool is live, and the context that used it is gone.
        unsafe { sys::ggml_threadpool_free(self.raw()) };
    }
}
