//! The owner of a `llama_sampler` of llama.cpp.

use std::ptr::NonNull;

use cope_contrast::Candidate;

use super::{Token, sys};

/// A sampler with its state.
#[derive(Debug)]
pub(super) struct RawSampler {
    raw: NonNull<sys::llama_sampler>,
    data: Vec<sys::llama_token_data>,
}

// SAFETY: a sampler is bound to no thread; two threads must not use it at once, and it is not `Sync`.
unsafe impl Send for RawSampler {}

impl RawSampler {
    /// Takes ownership of a sampler.
    ///
    /// # Safety
    ///
    /// `raw` must be live, owned by nobody else, and of a kind that can be cloned.
    pub unsafe fn new(raw: NonNull<sys::llama_sampler>) -> Self {
        Self {
            raw,
            data: Vec::new(),
        }
    }

    pub fn raw(&self) -> *mut sys::llama_sampler {
        self.raw.as_ptr()
    }

    /// Feeds the accepted `token` to the sampler. A sampler that may throw must be fed by llama.cpp's wrapper instead.
    pub fn accept(&mut self, token: Token) {
        // SAFETY: the sampler is live.
        unsafe { sys::llama_sampler_accept(self.raw(), token) };
    }

    /// Applies the sampler, which may change the scores of `candidates`, remove some of them, and reorder the rest.
    pub fn apply(&mut self, candidates: &mut Vec<Candidate>) {
        self.data.clear();
        self.data
            .extend(candidates.iter().map(|candidate| sys::llama_token_data {
                id: candidate.token,
                logit: candidate.score,
                p: 0.0,
            }));
        let mut array = sys::llama_token_data_array {
            data: self.data.as_mut_ptr(),
            size: self.data.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the sampler is live, and the array points to `size` entries that outlive the call.
        unsafe { sys::llama_sampler_apply(self.raw(), &raw mut array) };
        // Samplers reorder the entries in place and shorten `size`.
        candidates.clear();
        candidates.extend(self.data[..array.size].iter().map(|data| Candidate {
            token: data.id,
            score: data.logit,
        }));
    }
}

impl Clone for RawSampler {
    /// An independent sampler with the same state.
    fn clone(&self) -> Self {
        // SAFETY: the sampler is live and can be cloned.
        let raw = unsafe { sys::llama_sampler_clone(self.raw()) };
        Self {
            raw: NonNull::new(raw).expect("llama.cpp gives a sampler"),
            data: Vec::new(),
        }
    }
}

impl Drop for RawSampler {
    fn drop(&mut self) {
        // SAFETY: the sampler is live, and a chain frees its links.
        unsafe { sys::llama_sampler_free(self.raw()) };
    }
}
