//! Worker threads that a context keeps between passes.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::thread::{self, Builder};

use super::sys;
use crate::{Error, Result};

/// Makes sure that `n` more threads can be started, by starting them. Outside libraries end the process where they cannot
/// start their own.
///
/// # Errors
///
/// [`Error::Lack`] with the system's reason.
pub fn check_threads(n: usize) -> Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        // Each thread waits until all are there.
        let _closed = gate.lock();
        for _ in 0..n {
            let started = Builder::new().spawn_scoped(scope, || drop(gate.lock()));
            started.map_err(Error::no_thread)?;
        }
        Ok(())
    })
}

/// A pool of ggml's worker threads. Without a pool, ggml starts new threads for each pass, which takes several times as long
/// on a busy machine. Workers that wait for the next pass sleep, since spinning would occupy a core.
#[derive(Debug)]
pub(super) struct Threads {
    raw: NonNull<sys::ggml_threadpool>,
}

// SAFETY: a pool is bound to no thread, and only one context uses it.
unsafe impl Send for Threads {}

impl Threads {
    /// A pool of `n_threads`, one of which is the caller of a pass; `None` for fewer than two threads, or if ggml makes no
    /// pool.
    ///
    /// # Errors
    ///
    /// The errors of [`check_threads`].
    pub fn new(n_threads: i32) -> Result<Option<Self>> {
        if n_threads < 2 {
            return Ok(None);
        }
        check_threads(n_threads as usize - 1)?;
        // SAFETY: takes and returns plain values, and a pointer to one of them.
        let raw = unsafe {
            let mut params = sys::ggml_threadpool_params_default(n_threads);
            params.poll = 0;
            sys::ggml_threadpool_new(&raw mut params)
        };
        Ok(NonNull::new(raw).map(|raw| Self { raw }))
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
