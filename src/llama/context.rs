//! One sequence of tokens, seen by one model through at most one adapter: a KV cache and compute buffers.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ContextOptions, LoraAdapter, Model, Token, exclusive, log, start, sys};
use crate::{Error, Result};

/// A context of one (model, adapter, scale), which never change: its cache would be wrong for any other.
#[derive(Debug)]
pub struct Context {
    raw: NonNull<sys::llama_context>,
    /// What the cache holds.
    tokens: Vec<Token>,
    n_batch: usize,
    n_outputs: usize,
    /// Whether the last pass gave logits of the last token in the cache.
    has_logits: bool,
    /// Whether llama.cpp has sized its buffers, which the first pass does.
    is_sized: bool,
    interrupt: Option<Arc<AtomicBool>>,
    model: Arc<Model>,
    /// Kept alive while the context uses it.
    _adapter: Option<Arc<LoraAdapter>>,
}

// SAFETY: a context belongs to no thread; it must only not be used by two at once, and it is not `Sync`.
unsafe impl Send for Context {}

impl Context {
    /// An empty context of `model`, seen through the adapter, if any, at llama.cpp's run-time factor (1 for as
    /// trained).
    ///
    /// # Errors
    ///
    /// The adapter is another model's, the model has no weights, or llama.cpp has no memory or no kernels for the
    /// options.
    pub fn new(
        model: &Arc<Model>,
        adapter: Option<(Arc<LoraAdapter>, f32)>,
        options: &ContextOptions,
    ) -> Result<Self> {
        if !model.has_weights() {
            return Err(Error::input(
                "a context needs a model with weights, not a vocabulary",
            ));
        }
        start();
        let guard = exclusive();
        log::forget();
        // SAFETY: the model is live, the parameters are plain values and null pointers, and no other context is
        // being created (`exclusive`).
        let raw = unsafe { sys::llama_init_from_model(model.raw(), options.params(model)) };
        let raw = NonNull::new(raw)
            .ok_or_else(|| log::error(format!("make a context of {} tokens", options.n_ctx)))?;
        let context = Self {
            raw,
            tokens: Vec::new(),
            // SAFETY: the context is live.
            n_batch: unsafe { sys::llama_n_batch(raw.as_ptr()) } as usize,
            n_outputs: options.n_outputs.max(1) as usize,
            has_logits: false,
            is_sized: false,
            interrupt: None,
            model: Arc::clone(model),
            _adapter: adapter.as_ref().map(|(adapter, _)| Arc::clone(adapter)),
        };
        drop(guard);
        if let Some((adapter, scale)) = adapter {
            context.apply(&adapter, scale)?;
        }
        Ok(context)
    }

    fn apply(&self, adapter: &LoraAdapter, mut scale: f32) -> Result<()> {
        if !Arc::ptr_eq(adapter.model(), &self.model) {
            return Err(Error::input(
                "the adapter was loaded for another model than the context's",
            ));
        }
        if !scale.is_finite() {
            return Err(Error::input(format!(
                "an adapter cannot be scaled by {scale}"
            )));
        }
        let mut lora = adapter.raw();
        // SAFETY: one adapter of the same, live model and its factor; llama.cpp copies both.
        let code = unsafe {
            sys::llama_set_adapters_lora(self.raw.as_ptr(), &raw mut lora, 1, &raw mut scale)
        };
        if code == 0 {
            Ok(())
        } else {
            Err(log::error("apply the adapter to the context"))
        }
    }

    /// Lets `flag`, once true, stop a pass that is under way: it then fails with [`Error::Interrupted`]. Whoever
    /// sets the flag clears it before the next pass.
    pub fn set_interrupt(&mut self, flag: Arc<AtomicBool>) {
        let data = Arc::as_ptr(&flag).cast_mut().cast::<c_void>();
        // SAFETY: `is_set` reads the flag, which `self.interrupt` keeps alive as long as the context.
        unsafe { sys::llama_set_abort_callback(self.raw.as_ptr(), Some(is_set), data) };
        self.interrupt = Some(flag);
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Room for tokens.
    #[must_use]
    pub fn n_ctx(&self) -> usize {
        // SAFETY: the context is live.
        unsafe { sys::llama_n_ctx(self.raw.as_ptr()) as usize }
    }

    /// The tokens in the cache.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The number of tokens in the cache.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the cache is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Decodes `tokens` after those in the cache; [`logits`](Self::logits) then are the last one's. On an error
    /// the cache is as it was before.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the tokens do not fit or are none of the vocabulary's, [`Error::Interrupted`] if the
    /// interrupt flag was set, [`Error::Llama`] if llama.cpp fails.
    pub fn extend(&mut self, tokens: &[Token]) -> Result<()> {
        let last = tokens.len().saturating_sub(1);
        let n_batch = self.n_batch;
        self.decode(tokens, n_batch, |index| index == last, |_, _| ())
    }

    /// As [`extend`](Self::extend), and gives the logits at every position, `[tokens.len(), n_vocab]`.
    ///
    /// # Errors
    ///
    /// As [`extend`](Self::extend).
    pub fn extend_all(&mut self, tokens: &[Token]) -> Result<Vec<f32>> {
        let mut logits = Vec::with_capacity(tokens.len() * self.model.n_vocab());
        let n_batch = self.n_batch.min(self.n_outputs);
        self.decode(
            tokens,
            n_batch,
            |_| true,
            |context, n_rows| {
                for row in 0..n_rows {
                    logits.extend_from_slice(context.logits_of(row as i32));
                }
            },
        )?;
        Ok(logits)
    }

    /// The logits of the last token in the cache, `[n_vocab]`, unnormalised: what may come next.
    ///
    /// # Panics
    ///
    /// If the cache was not last changed by a successful pass over at least one token, or by a shift.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        assert!(self.has_logits, "logits are there after a pass");
        self.logits_of(-1)
    }

    /// Keeps the first `len` tokens in the cache. A cache that cannot be cut there (a recurrent model's) is
    /// emptied: see [`len`](Self::len).
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens.len() {
            return;
        }
        self.has_logits = false;
        // SAFETY: the memory is the live context's.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            if sys::llama_memory_seq_rm(memory, SEQUENCE, len as i32, -1) {
                self.tokens.truncate(len);
            } else {
                sys::llama_memory_clear(memory, false);
                self.tokens.clear();
            }
        }
    }

    /// Whether [`shift`](Self::shift) is possible with this kind of model.
    #[must_use]
    pub fn can_shift(&self) -> bool {
        // SAFETY: the memory is the live context's.
        unsafe { sys::llama_memory_can_shift(sys::llama_get_memory(self.raw.as_ptr())) }
    }

    /// Makes room: forgets the `discard` tokens after the first `keep`, and moves the later ones up to them. What
    /// those were computed from stays in them, so this is an approximation, and the usual one.
    ///
    /// # Panics
    ///
    /// If there are not `keep + discard` tokens, or if not [`can_shift`](Self::can_shift).
    pub fn shift(&mut self, keep: usize, discard: usize) {
        assert!(self.can_shift(), "this model's memory cannot be shifted");
        self.tokens.drain(keep..keep + discard);
        let (start, end) = (keep as i32, (keep + discard) as i32);
        // SAFETY: the memory is the live context's and can be shifted; the range was in the cache.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_rm(memory, SEQUENCE, start, end);
            sys::llama_memory_seq_add(memory, SEQUENCE, end, -1, start - end);
        }
    }

    /// Decodes `tokens` in passes of at most `n_batch`. Logits are computed where `is_output` says so by index;
    /// `read` is called after each pass with the number of its tokens. On an error the cache is restored.
    fn decode(
        &mut self,
        tokens: &[Token],
        n_batch: usize,
        is_output: impl Fn(usize) -> bool,
        mut read: impl FnMut(&Self, usize),
    ) -> Result<()> {
        self.check(tokens)?;
        let len = self.tokens.len();
        let mut outputs = Vec::with_capacity(n_batch.min(tokens.len()));
        for (pass, batch) in tokens.chunks(n_batch).enumerate() {
            outputs.clear();
            outputs
                .extend((0..batch.len()).map(|index| i8::from(is_output(pass * n_batch + index))));
            if let Err(error) = self.decode_batch(batch, &mut outputs) {
                self.forget_after(len);
                return Err(error);
            }
            self.tokens.extend_from_slice(batch);
            read(self, batch.len());
        }
        Ok(())
    }

    fn check(&self, tokens: &[Token]) -> Result<()> {
        if let Some(token) = tokens.iter().find(|&&token| !self.model.contains(token)) {
            return Err(Error::input(format!("the model has no token {token}")));
        }
        let (len, n_ctx) = (self.tokens.len(), self.n_ctx());
        if len + tokens.len() > n_ctx {
            return Err(Error::input(format!(
                "{} tokens do not fit after {len} into a context of {n_ctx}",
                tokens.len()
            )));
        }
        Ok(())
    }

    /// One pass over `batch`, whose tokens follow those in llama.cpp's cache.
    fn decode_batch(&mut self, batch: &[Token], outputs: &mut [i8]) -> Result<()> {
        // The CPU asks the flag between operations; other devices only here.
        if self
            .interrupt
            .as_ref()
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            return Err(Error::Interrupted);
        }
        let guard = (!self.is_sized).then(exclusive);
        log::forget();
        let raw_batch = sys::llama_batch {
            n_tokens: batch.len() as i32,
            token: batch.as_ptr().cast_mut(),
            embd: std::ptr::null_mut(),
            // Null positions and sequences: after what the cache has, in sequence 0.
            pos: std::ptr::null_mut(),
            n_seq_id: std::ptr::null_mut(),
            seq_id: std::ptr::null_mut(),
            logits: outputs.as_mut_ptr(),
        };
        // SAFETY: the batch points to `n_tokens` tokens of the vocabulary, which llama.cpp only reads, and to as
        // many output marks; it is no longer than the context's `n_batch`, with no more outputs than it has room
        // for.
        let code = unsafe { sys::llama_decode(self.raw.as_ptr(), raw_batch) };
        drop(guard);
        self.is_sized = true;
        self.has_logits = code == 0;
        match code {
            0 => Ok(()),
            1 => Err(Error::Llama {
                operation: format!("decode {} tokens", batch.len()),
                reason: "its cache has no room for them".to_owned(),
            }),
            2 => Err(Error::Interrupted),
            _ => Err(log::error(format!("decode {} tokens", batch.len()))),
        }
    }

    /// Restores the cache to its first `len` tokens after a failed pass, which may have left more in it than
    /// `tokens` tells.
    fn forget_after(&mut self, len: usize) {
        // One more than is there, so that `truncate` does not take its short cut.
        self.tokens.resize(len + 1, 0);
        self.truncate(len);
    }

    /// A row of the last pass's logits; negative numbers count from the end.
    fn logits_of(&self, row: i32) -> &[f32] {
        // SAFETY: the context is live; llama.cpp waits for the pass to end, and gives null for rows without logits.
        let logits = unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), row) };
        assert!(
            !logits.is_null(),
            "llama.cpp keeps the logits that a pass was asked for"
        );
        // SAFETY: not null, so `n_vocab` floats, which stay until the next pass, and passes take `&mut self`.
        unsafe { std::slice::from_raw_parts(logits, self.model.n_vocab()) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` is live, and the fields that it uses are dropped after this.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}

/// The only sequence of a context.
const SEQUENCE: sys::llama_seq_id = 0;

/// llama.cpp's abort callback.
///
/// # Safety
///
/// `flag` must point to a live [`AtomicBool`].
unsafe extern "C" fn is_set(flag: *mut c_void) -> bool {
    // SAFETY: by this function's contract.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}
