//! CoPe's contrast as a sampler for programs that use llama.cpp: the C interface, which `include/cope_sampler.h`
//! documents. It says what a host program has to do.

use std::ffi::{c_char, c_float, c_int};
use std::ptr::null_mut;

use llama_cpp_sys_2 as sys;

use cope_contrast::{Candidate, Contrast, threshold};

/// The state behind a sampler.
struct State {
    contrast: Contrast,
    base: *mut sys::llama_context,
    sequence: sys::llama_seq_id,
    /// The accepted tokens that the base has not read yet.
    pending: Vec<sys::llama_token>,
    /// The result of the base's last failed pass; 0 if none has failed.
    status: c_int,
    candidates: Vec<Candidate>,
    base_logits: Vec<f32>,
}

/// Makes a sampler, as the header documents.
///
/// # Safety
///
/// `base` must be null or a live context, which outlives the sampler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cope_sampler_init(
    base: *mut sys::llama_context,
    sequence: sys::llama_seq_id,
    contrast: c_float,
    plausibility: c_float,
) -> *mut sys::llama_sampler {
    let Ok(contrast) = Contrast::new(contrast, plausibility) else {
        return null_mut();
    };
    if base.is_null() {
        return null_mut();
    }
    let state = Box::new(State {
        contrast,
        base,
        sequence,
        pending: Vec::new(),
        status: 0,
        candidates: Vec::new(),
        base_logits: Vec::new(),
    });
    // SAFETY: llama.cpp keeps both pointers; the table is static, and llama.cpp never writes to it.
    unsafe { sys::llama_sampler_init((&raw const TABLE).cast_mut(), Box::into_raw(state).cast()) }
}

/// Lets the base read the pending tokens, as the header documents.
///
/// # Safety
///
/// `sampler` must be null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cope_sampler_flush(sampler: *mut sys::llama_sampler) -> c_int {
    // SAFETY: by this function's contract.
    match unsafe { state(sampler) } {
        Some(state) => state.read_pending(),
        None => -1,
    }
}

/// The result of the base's last failed pass, as the header documents.
///
/// # Safety
///
/// `sampler` must be null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cope_sampler_status(sampler: *const sys::llama_sampler) -> c_int {
    // SAFETY: by this function's contract.
    unsafe { state(sampler) }.map_or(-1, |state| state.status)
}

/// The functions that llama.cpp calls.
static TABLE: sys::llama_sampler_i = sys::llama_sampler_i {
    name: Some(name),
    accept: Some(accept),
    apply: Some(apply),
    reset: Some(reset),
    clone: Some(clone),
    free: Some(free),
    backend_init: None,
    backend_accept: None,
    backend_apply: None,
    backend_set_input: None,
    backend_reset: None,
    copy_state: None,
};

/// The state of a sampler, or `None` if the sampler is not ours.
///
/// # Safety
///
/// `sampler` must be null or live, and nothing else may use its state.
unsafe fn state<'a>(sampler: *const sys::llama_sampler) -> Option<&'a mut State> {
    // SAFETY: by this function's contract; a sampler with our table has our state.
    unsafe {
        let ours = !sampler.is_null() && std::ptr::eq((*sampler).iface, &raw const TABLE);
        ours.then(|| &mut *(*sampler).ctx.cast::<State>())
    }
}

unsafe extern "C" fn name(_: *const sys::llama_sampler) -> *const c_char {
    c"cope".as_ptr()
}

unsafe extern "C" fn accept(sampler: *mut sys::llama_sampler, token: sys::llama_token) {
    // SAFETY: llama.cpp calls this with a live sampler.
    if let Some(state) = unsafe { state(sampler) } {
        state.pending.push(token);
    }
}

unsafe extern "C" fn apply(
    sampler: *mut sys::llama_sampler,
    candidates: *mut sys::llama_token_data_array,
) {
    // SAFETY: llama.cpp calls this with a live sampler, and with an array of `size` candidates.
    unsafe {
        if let Some(state) = state(sampler) {
            let array = &mut *candidates;
            let data = std::slice::from_raw_parts_mut(array.data, array.size);
            array.size = state.apply(data);
            array.sorted = false;
            array.selected = -1;
        }
    }
}

unsafe extern "C" fn reset(sampler: *mut sys::llama_sampler) {
    // SAFETY: llama.cpp calls this with a live sampler, whose context is live by the host's promise.
    unsafe {
        if let Some(state) = state(sampler) {
            state.pending.clear();
            state.status = 0;
            let memory = sys::llama_get_memory(state.base);
            sys::llama_memory_seq_rm(memory, state.sequence, -1, -1);
        }
    }
}

unsafe extern "C" fn clone(sampler: *const sys::llama_sampler) -> *mut sys::llama_sampler {
    // SAFETY: llama.cpp calls this with a live sampler, whose context is live by the host's promise.
    unsafe {
        let Some(state) = state(sampler) else {
            return null_mut();
        };
        let contrast = state.contrast;
        let clone = cope_sampler_init(
            state.base,
            state.sequence,
            contrast.contrast(),
            contrast.plausibility(),
        );
        if let Some(clone) = self::state(clone) {
            clone.pending.clone_from(&state.pending);
        }
        clone
    }
}

unsafe extern "C" fn free(sampler: *mut sys::llama_sampler) {
    // SAFETY: llama.cpp calls this once, with a live sampler, whose state came out of a `Box`.
    unsafe {
        if state(sampler).is_some() {
            drop(Box::from_raw((*sampler).ctx.cast::<State>()));
        }
    }
}

impl State {
    /// Moves the plausible tokens to the front of `data`, sets their scores, and returns their number. If no logit is
    /// above −∞, all of `data` stays as it is. If the base's pass fails, the user's logits remain the scores.
    fn apply(&mut self, data: &mut [sys::llama_token_data]) -> usize {
        let logits = data.iter().map(|it| it.logit);
        let max = logits.fold(f32::NEG_INFINITY, f32::max);
        let Ok(threshold) = threshold(max, self.contrast.plausibility()) else {
            return data.len();
        };
        let mut len = 0;
        for index in 0..data.len() {
            if data[index].logit >= threshold {
                data.swap(len, index);
                len += 1;
            }
        }
        let data = &mut data[..len];
        // A single candidate needs no contrast, and the base can read the pending tokens later.
        if len > 1 && self.read_pending() == 0 && self.gather(data) {
            self.contrast.apply(&mut self.candidates, &self.base_logits);
            for (data, candidate) in data.iter_mut().zip(&self.candidates) {
                data.logit = candidate.score;
            }
        }
        len
    }

    /// Fills `candidates`, and `base_logits` with the base's logits of them. Returns `false` if the base has read
    /// nothing yet.
    fn gather(&mut self, data: &[sys::llama_token_data]) -> bool {
        // SAFETY: the context is live by the host's promise; llama.cpp gives null if there are no logits.
        let (logits, n_vocab) = unsafe {
            let vocabulary = sys::llama_model_get_vocab(sys::llama_get_model(self.base));
            let logits = sys::llama_get_logits_ith(self.base, -1);
            (logits, sys::llama_vocab_n_tokens(vocabulary) as usize)
        };
        if logits.is_null() || data.iter().any(|it| it.id < 0 || it.id as usize >= n_vocab) {
            return false;
        }
        // SAFETY: the pointer is not null, so it points to `n_vocab` logits, which stay until the context's next pass.
        let logits = unsafe { std::slice::from_raw_parts(logits, n_vocab) };
        self.candidates.clear();
        self.candidates.extend(data.iter().map(|it| Candidate {
            token: it.id,
            score: it.logit.min(f32::MAX),
        }));
        self.base_logits.clear();
        self.base_logits
            .extend(data.iter().map(|it| logits[it.id as usize]));
        true
    }

    /// Lets the base read the pending tokens, in as few passes as its batch size allows, with logits for the last
    /// token. Returns 0, or the result of the pass that failed, whose tokens are then still pending.
    fn read_pending(&mut self) -> c_int {
        // SAFETY: the context is live by the host's promise.
        let n_batch = unsafe { sys::llama_n_batch(self.base) }.max(1) as usize;
        while !self.pending.is_empty() {
            let n = self.pending.len().min(n_batch);
            let is_last = n == self.pending.len();
            let status = self.read(n, is_last);
            if status != 0 {
                self.status = status;
                return status;
            }
            self.pending.drain(..n);
        }
        0
    }

    /// Runs one pass over the first `n` pending tokens.
    fn read(&mut self, n: usize, is_last: bool) -> c_int {
        // SAFETY: the context is live by the host's promise.
        let start = unsafe {
            let memory = sys::llama_get_memory(self.base);
            sys::llama_memory_seq_pos_max(memory, self.sequence) + 1
        };
        let mut positions: Vec<_> = (start..).take(n).collect();
        let mut n_sequences = vec![1; n];
        let mut sequences = vec![&raw mut self.sequence; n];
        let mut outputs = vec![0_i8; n];
        outputs[n - 1] = i8::from(is_last);
        let batch = sys::llama_batch {
            n_tokens: n as i32,
            token: self.pending.as_mut_ptr(),
            embd: null_mut(),
            pos: positions.as_mut_ptr(),
            n_seq_id: n_sequences.as_mut_ptr(),
            seq_id: sequences.as_mut_ptr(),
            logits: outputs.as_mut_ptr(),
        };
        // SAFETY: all arrays have `n` entries, no more than the context's batches, and outlive the call.
        unsafe { sys::llama_decode(self.base, batch) }
    }
}
