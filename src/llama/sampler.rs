//! A `llama_sampler` of llama.cpp's own.

use std::ptr::NonNull;

use cope_contrast::Candidate;

use super::{Token, sys};

/// An owned sampler with its state.
#[derive(Debug)]
pub(super) struct RawSampler {
    raw: NonNull<sys::llama_sampler>,
    data: Vec<sys::llama_token_data>,
}

// SAFETY: a sampler belongs to no thread; it must only not be used by two at once, and it is not `Sync`.
unsafe impl Send for RawSampler {}

impl RawSampler {
    /// Takes over a sampler.
    ///
    /// # Safety
    ///
    /// `raw` must be live and nobody else's, and one that can be cloned.
    pub unsafe fn new(raw: NonNull<sys::llama_sampler>) -> Self {
        Self {
            raw,
            data: Vec::new(),
        }
    }

    pub fn raw(&self) -> *mut sys::llama_sampler {
        self.raw.as_ptr()
    }

    /// Tells the sampler that `token` has become part of the text; one that may throw is told by llama.cpp's wrapper.
    pub fn accept(&mut self, token: Token) {
        // SAFETY: the sampler is live.
        unsafe { sys::llama_sampler_accept(self.raw(), token) };
    }

    /// Lets the sampler change the scores of `candidates` and take some of them out; what stays may be in another order.
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
    /// A sampler of its own with the same state.
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
