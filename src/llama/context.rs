//! A context: the KV cache and the compute buffers of one model with at most one adapter, for one sequence of tokens.

mod pass;
mod state;

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use cope_contrast::Candidate;

use super::output_head::{CandidateHead, NodeObserver, WholeHead};
use super::pace::Pace;
use super::threads::Threads;
use super::{
    ContextOptions, LoraAdapter, Model, Token, context_size, devices, exclusive, log, sys,
};
use crate::{Error, Result};

/// A context of one (model, adapter, scale). These never change, since the cache would be wrong for any other.
#[derive(Debug)]
pub struct Context {
    raw: NonNull<sys::llama_context>,
    /// The tokens in the cache.
    tokens: Vec<Token>,
    n_batch: usize,
    n_outputs: usize,
    /// The number of contexts whose passes run at the same time and share the threads.
    n_sharing: i32,
    pace: Pace,
    /// Whether a pass that starves may be ended and run again: its cache can be cut, and no GPU is waited for.
    is_repeatable: bool,
    /// The least number of tokens that the cache can be cut to, besides none.
    least_len: usize,
    /// The kind of cache, which a saved cache must have in common with the context that it is restored into.
    layout: String,
    /// The rows of the last pass that are still valid.
    rows: KeptRows,
    /// Whether the logits of all rows were computed after the pass, by [`Context::finish`].
    has_whole_rows: bool,
    /// Observes the nodes of each pass. llama.cpp holds its address, so it is boxed.
    observer: Box<NodeObserver>,
    head: ContextHead,
    /// Whether llama.cpp has sized its buffers, which happens in the first pass.
    is_sized: bool,
    interrupt: Option<Arc<AtomicBool>>,
    model: Arc<Model>,
    /// Kept alive while the context uses them.
    _adapter: Option<Arc<LoraAdapter>>,
    threads: Option<Threads>,
}

/// Whether passes without the output head are possible.
#[derive(Debug)]
enum ContextHead {
    /// Not known before a pass with the head has been seen.
    Unknown,
    /// They are possible, by this output head. If its weight lies in host memory, the whole head can be computed after the
    /// pass too.
    Apart(Box<CandidateHead>, Option<WholeHead>),
    /// They are not possible.
    Whole,
}

/// The rows that a pass leaves: the logits after each of its last tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KeptRows {
    /// The lengths of the sequence that have a row.
    lens: Range<usize>,
    /// The length of the sequence before the last batch of the pass.
    start: usize,
}

// SAFETY: a context is bound to no thread; two threads must not use it at once, and it is not `Sync`.
unsafe impl Send for Context {}

/// Refuses an adapter that was trained with other factors of the rotary frequencies than those of the context.
fn check_factors(model: &Model, adapter: &LoraAdapter, options: &ContextOptions) -> Result<()> {
    match (model.factor_sets(), adapter.rope_factors()) {
        (Some(sets), Some(trained)) => sets.check(trained, options.n_ctx),
        _ => Ok(()),
    }
}

/// The kind of cache that a context of `model` with `options` has. Keys are rotated by the model's factors.
fn layout(model: &Model, options: &ContextOptions) -> String {
    let layout = format!("{:?}, {:?}", options.kv_type, options.flash_attention);
    match model.factor_sets() {
        Some(sets) => format!("{layout}, {:?}", sets.in_context(options.n_ctx)),
        None => layout,
    }
}

impl Context {
    /// An empty context of `model`, with an adapter and its scale if given. Scale 1 applies the adapter as it was trained.
    ///
    /// # Errors
    ///
    /// [`Error::Bug`] if the adapter was loaded for another model or the model has no weights, [`Error::Input`] if the scale
    /// is not finite or the adapter was trained for contexts in which the model rotates by other factors, [`Error::NoRoom`] if the context takes more memory than is free, [`Error::Lack`] if its threads
    /// cannot be started, [`Error::Llama`] if llama.cpp has no memory or no kernels for the options.
    pub fn new(
        model: &Arc<Model>,
        adapter: Option<(Arc<LoraAdapter>, f32)>,
        options: &ContextOptions,
    ) -> Result<Self> {
        Self::with_sequences(model, adapter, options, 1)
    }

    /// A context like that of [`new`](Self::new), with `n_sequences` sequences, each with room for the tokens of `options`.
    pub(super) fn with_sequences(
        model: &Arc<Model>,
        adapter: Option<(Arc<LoraAdapter>, f32)>,
        options: &ContextOptions,
        n_sequences: u32,
    ) -> Result<Self> {
        if !model.has_weights() {
            return Err(Error::bug("a context needs a model with weights"));
        }
        if let Some((adapter, _)) = &adapter {
            check_factors(model, adapter, options)?;
        }
        context_size::check(model, options, n_sequences)?;
        let threads = Threads::new(options.threads())?;
        let guard = exclusive();
        log::forget();
        let mut observer = Box::<NodeObserver>::default();
        let mut params = options.params(model, n_sequences);
        (params.cb_eval, params.cb_eval_user_data) = observer.callback();
        // SAFETY: the model is live; of the parameters' pointers only the observer is not null, which the context owns;
        // and no other context is being created (`exclusive`).
        let raw = unsafe { sys::llama_init_from_model(model.raw(), params) };
        let raw = NonNull::new(raw)
            .ok_or_else(|| log::error(format!("make a context of {} tokens", options.n_ctx)))?;
        if let Some(threads) = &threads {
            // SAFETY: both are live, and the context keeps the pool until it is gone itself.
            unsafe {
                sys::llama_attach_threadpool(raw.as_ptr(), threads.raw(), threads.raw());
            }
        }
        // llama.cpp makes batches smaller where the model's context is smaller.
        // SAFETY: the context is live.
        let n_batch = unsafe { sys::llama_n_batch(raw.as_ptr()) } as usize;
        let context = Self {
            raw,
            tokens: Vec::new(),
            n_batch,
            n_outputs: (options.n_outputs as usize).clamp(1, n_batch.max(1)),
            n_sharing: 1,
            pace: Pace::new(options.threads()),
            is_repeatable: model.can_cut_caches() && !devices().iter().any(|it| it.is_gpu),
            least_len: 0,
            layout: layout(model, options),
            rows: KeptRows::default(),
            has_whole_rows: false,
            observer,
            head: ContextHead::Unknown,
            is_sized: false,
            interrupt: None,
            model: Arc::clone(model),
            _adapter: adapter.as_ref().map(|(adapter, _)| Arc::clone(adapter)),
            threads,
        };
        drop(guard);
        if let Some((adapter, scale)) = adapter {
            context.apply(&adapter, scale)?;
        }
        Ok(context)
    }

    fn apply(&self, adapter: &LoraAdapter, mut scale: f32) -> Result<()> {
        if !Arc::ptr_eq(adapter.model(), &self.model) {
            return Err(Error::bug(
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

    /// Makes a running pass fail with [`Error::Interrupted`] once `flag` is true. The owner of the flag clears it before the
    /// next pass.
    pub fn set_interrupt(&mut self, flag: Arc<AtomicBool>) {
        self.interrupt = Some(flag);
    }

    /// Uses the `n`th part of its threads from now on, since the passes of `n` contexts run at the same time.
    pub fn share_threads(&mut self, n: usize) {
        self.n_sharing = n.clamp(1, i32::MAX as usize) as i32;
    }

    /// The threads of a pass that starts now.
    fn n_threads_now(&mut self) -> i32 {
        let share = (self.pace.most() / self.n_sharing).max(1);
        self.pace.n_threads(Instant::now()).min(share)
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The most tokens that the cache has room for.
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

    /// Decodes `tokens` after those in the cache, and keeps a row of logits after each of the last `n_rows` of them, as
    /// `rows` says. On an error the cache is as it was before.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the tokens do not fit or are none of the vocabulary's, [`Error::Interrupted`] if the
    /// interrupt flag was set, [`Error::Llama`] if llama.cpp fails.
    ///
    /// # Panics
    ///
    /// If `n_rows` is more than [`max_rows`](Self::max_rows).
    pub fn extend(&mut self, tokens: &[Token], n_rows: usize, rows: Rows) -> Result<()> {
        self.decode(tokens, n_rows, rows)
    }

    /// Computes the logits that a pass of [`Rows::Deferred`] has left out, with all of the context's threads. They are
    /// those of [`Rows::Full`] to the bit.
    ///
    /// # Errors
    ///
    /// [`Error::Llama`] if ggml fails.
    pub fn finish(&mut self) -> Result<()> {
        let n_threads = self.n_threads_now();
        if let ContextHead::Apart(_, Some(head)) = &mut self.head
            && self.observer.lean
            && !self.has_whole_rows
        {
            let threads = self.threads.as_ref();
            head.compute(&self.observer.hidden, n_threads, threads)?;
            self.has_whole_rows = true;
        }
        Ok(())
    }

    /// Decodes `tokens` after those in the cache, and gives the logits at every position, `[tokens.len(), n_vocab]`.
    ///
    /// # Errors
    ///
    /// The errors of [`extend`](Self::extend).
    pub fn extend_all(&mut self, tokens: &[Token]) -> Result<Vec<f32>> {
        let mut logits = Vec::with_capacity(tokens.len() * self.model.n_vocab());
        let len = self.len();
        for tokens in tokens.chunks(self.max_rows()) {
            if let Err(error) = self.extend(tokens, tokens.len(), Rows::Full) {
                self.truncate(len);
                return Err(error);
            }
            self.rows()
                .for_each(|len| logits.extend_from_slice(self.logits_after(len)));
        }
        Ok(logits)
    }

    /// The most rows that a pass can keep.
    #[must_use]
    pub fn max_rows(&self) -> usize {
        self.n_outputs
    }

    /// The lengths of the sequence that have a row of logits: those of the last pass that are still valid.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.lens.clone()
    }

    /// The unnormalised logits of the token after the last one in the cache, `[n_vocab]`.
    ///
    /// # Panics
    ///
    /// If the last pass kept no row after that token, or computed no logits ([`Rows::Candidates`]).
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        self.logits_after(self.len())
    }

    /// The unnormalised logits of the token after the first `len` tokens, `[n_vocab]`.
    ///
    /// # Panics
    ///
    /// If `len` is not in [`rows`](Self::rows), or the pass computed no logits ([`Rows::Candidates`]).
    #[must_use]
    pub fn logits_after(&self, len: usize) -> &[f32] {
        assert!(
            self.rows.lens.contains(&len),
            "the last pass kept a row after so many tokens"
        );
        self.logits_at(len - 1 - self.rows.start, len - self.rows.lens.start)
    }

    /// Writes the logits of `candidates` after the first `len` tokens to `logits`, in their order; `logits` is emptied
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the model's file can no longer be read.
    ///
    /// # Panics
    ///
    /// If `len` is not in [`rows`](Self::rows), or a candidate is not in the vocabulary.
    pub fn logits_of(
        &mut self,
        len: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        assert!(self.rows.lens.contains(&len), "a row of the last pass");
        let (token, row) = (len - 1 - self.rows.start, len - self.rows.lens.start);
        self.logits_of_at(token, row, candidates, logits)
    }

    /// Keeps the first `len` tokens in the cache. A cache that cannot be cut there is emptied; [`len`](Self::len) tells. That
    /// of a recurrent or hybrid model can be cut once after each pass, by at most [`max_cut`](Self::max_cut) tokens, to a
    /// length within the pass.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens.len() {
            return;
        }
        let Range { start, end } = self.rows.lens;
        self.rows.lens = start..end.min(len + 1);
        // llama.cpp itself would also cut to lengths whose states it has written over.
        // SAFETY: the memory belongs to the live context.
        let is_cut = len >= self.least_len
            && unsafe {
                let memory = sys::llama_get_memory(self.raw.as_ptr());
                sys::llama_memory_seq_rm(memory, SEQUENCE, len as i32, -1)
            };
        if is_cut {
            self.tokens.truncate(len);
            self.keep_from(len);
        } else {
            self.clear();
        }
    }

    /// The most tokens by which the cache can be cut after a pass over more tokens; `usize::MAX` for a cache that can be cut
    /// anywhere.
    #[must_use]
    pub fn max_cut(&self) -> usize {
        if self.model.can_cut_caches() {
            return usize::MAX;
        }
        // SAFETY: the context is live.
        unsafe { sys::llama_n_rs_seq(self.raw.as_ptr()) as usize }
    }

    /// Notes that the states before `len` tokens are gone, in a cache that has any.
    fn keep_from(&mut self, len: usize) {
        self.least_len = if self.model.can_cut_caches() { 0 } else { len };
    }

    /// The most tokens of one batch.
    pub(super) fn n_batch(&self) -> usize {
        self.n_batch
    }

    pub(super) fn raw(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    pub(super) fn layout(&self) -> &str {
        &self.layout
    }

    /// Records that llama.cpp's cache now holds `tokens`.
    pub(super) fn set_tokens(&mut self, tokens: Vec<Token>) {
        self.keep_from(tokens.len());
        self.tokens = tokens;
        self.rows = KeptRows::default();
    }

    /// Empties the cache, in whatever state llama.cpp has left it.
    pub(super) fn clear(&mut self) {
        // SAFETY: the memory belongs to the live context.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw()), false) };
        self.set_tokens(Vec::new());
    }

    /// Whether the model's cache can be [shifted](Self::shift).
    #[must_use]
    pub fn can_shift(&self) -> bool {
        // SAFETY: the memory belongs to the live context.
        self.model.rotations_add_up()
            && self.model.can_cut_caches()
            && unsafe { sys::llama_memory_can_shift(sys::llama_get_memory(self.raw.as_ptr())) }
    }

    /// Makes room by a context shift: removes the `discard` tokens after the first `keep`, and moves the later ones up. The
    /// keys and values of the later ones were computed with the removed tokens in view and stay as they are, so this is an
    /// approximation, the one that llama.cpp's programs make too.
    ///
    /// # Panics
    ///
    /// If there are fewer than `keep + discard` tokens, or the cache cannot be shifted ([`can_shift`](Self::can_shift)).
    pub fn shift(&mut self, keep: usize, discard: usize) {
        assert!(self.can_shift(), "this model's memory cannot be shifted");
        self.tokens.drain(keep..keep + discard);
        self.rows = KeptRows::default();
        let (start, end) = (keep as i32, (keep + discard) as i32);
        // SAFETY: the memory belongs to the live context and can be shifted; the range was in the cache.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_rm(memory, SEQUENCE, start, end);
            sys::llama_memory_seq_add(memory, SEQUENCE, end, -1, start - end);
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` is live, and the fields that it uses are dropped after this.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}

/// Which logits of its rows a pass computes. Where the model does not allow less, a pass computes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// All logits.
    Full,
    /// None in the pass: the caller asks for the logits of a few candidates by `logits_of`, each of which is a dot product
    /// with one row of the output head. The first pass of a context computes all logits nevertheless, since it shows
    /// whether the model allows less.
    Candidates,
    /// None in the pass: the caller computes all of them afterwards by `finish`. A pass that runs beside another's has only
    /// a part of the threads, and `finish` has all.
    Deferred,
}

/// The only sequence of a context.
pub(super) const SEQUENCE: sys::llama_seq_id = 0;
