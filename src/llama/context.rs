//! One sequence of tokens, seen by one model through at most one adapter: a KV cache and compute buffers.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cope_contrast::Candidate;

use super::head::{Head, HeadNode, Observer};
use super::threads::Threads;
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
    n_threads: i32,
    /// What makes a saved cache unfit for another context.
    layout: String,
    /// The last pass's rows that still hold.
    rows: Rows,
    /// Sees the passes' nodes; llama.cpp has its address.
    observer: Box<Observer>,
    head: ContextHead,
    /// Whether llama.cpp has sized its buffers, which the first pass does.
    is_sized: bool,
    interrupt: Option<Arc<AtomicBool>>,
    model: Arc<Model>,
    /// Kept alive while the context uses them.
    _adapter: Option<Arc<LoraAdapter>>,
    _threads: Option<Threads>,
}

/// Whether lean passes are possible.
#[derive(Debug)]
enum ContextHead {
    /// Not known before a whole pass has been seen.
    Unknown,
    /// They are, by this head.
    Apart(Head),
    /// They are not.
    Whole,
}

/// What a pass leaves: for each of its last tokens, what may follow it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rows {
    /// The lengths of the sequence after which it is known.
    lens: Range<usize>,
    /// The length of the sequence before the last of the pass's batches.
    start: usize,
    /// Whether hidden states were kept, not logits.
    lean: bool,
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
        Self::with_sequences(model, adapter, options, 1)
    }

    /// As [`new`](Self::new), with room for `n_sequences` of as many tokens each.
    pub(super) fn with_sequences(
        model: &Arc<Model>,
        adapter: Option<(Arc<LoraAdapter>, f32)>,
        options: &ContextOptions,
        n_sequences: u32,
    ) -> Result<Self> {
        if !model.has_weights() {
            return Err(Error::input(
                "a context needs a model with weights, not a vocabulary",
            ));
        }
        start();
        let guard = exclusive();
        log::forget();
        let mut observer = Box::<Observer>::default();
        let mut params = options.params(model);
        params.n_ctx = params.n_ctx.saturating_mul(n_sequences);
        params.n_seq_max = n_sequences;
        (params.cb_eval, params.cb_eval_user_data) = observer.callback();
        // SAFETY: the model is live; of the parameters' pointers only the observer is not null, which the context owns;
        // and no other context is being created (`exclusive`).
        let raw = unsafe { sys::llama_init_from_model(model.raw(), params) };
        let raw = NonNull::new(raw)
            .ok_or_else(|| log::error(format!("make a context of {} tokens", options.n_ctx)))?;
        let threads = Threads::new(options.threads());
        if let Some(threads) = &threads {
            // SAFETY: both are live, and the context keeps the pool until it is gone itself.
            unsafe {
                sys::llama_attach_threadpool(raw.as_ptr(), threads.raw(), threads.raw());
            }
        }
        let context = Self {
            raw,
            tokens: Vec::new(),
            // SAFETY: the context is live.
            n_batch: unsafe { sys::llama_n_batch(raw.as_ptr()) } as usize,
            n_outputs: options.n_outputs.clamp(1, options.n_batch.max(1)) as usize,
            n_threads: options.threads(),
            layout: format!("{:?}, {:?}", options.kv_type, options.flash_attention),
            rows: Rows::default(),
            observer,
            head: ContextHead::Unknown,
            is_sized: false,
            interrupt: None,
            model: Arc::clone(model),
            _adapter: adapter.as_ref().map(|(adapter, _)| Arc::clone(adapter)),
            _threads: threads,
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

    /// Computes with the `n`th part of its threads from now on, as one of `n` contexts whose passes run beside each
    /// other.
    pub fn share_threads(&mut self, n: usize) {
        let n_threads = (self.n_threads / n as i32).max(1);
        // SAFETY: the context is live, and no pass is under way.
        unsafe { sys::llama_set_n_threads(self.raw.as_ptr(), n_threads, n_threads) };
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
        self.extend_rows(tokens, 1)
    }

    /// As [`extend`](Self::extend), and keeps what may follow each of the last `n_rows` tokens, at most
    /// [`max_rows`](Self::max_rows).
    ///
    /// # Errors
    ///
    /// As [`extend`](Self::extend).
    pub fn extend_rows(&mut self, tokens: &[Token], n_rows: usize) -> Result<()> {
        self.decode(tokens, n_rows, false)
    }

    /// As [`extend_rows`](Self::extend_rows), for those who ask [`logits_of`](Self::logits_of) some tokens only: where
    /// the model allows it, the pass ends before the head. The first pass of a context, from which that is known, does
    /// not.
    ///
    /// # Errors
    ///
    /// As [`extend`](Self::extend).
    pub fn extend_lean(&mut self, tokens: &[Token], n_rows: usize) -> Result<()> {
        self.decode(tokens, n_rows, true)
    }

    /// As [`extend`](Self::extend), and gives the logits at every position, `[tokens.len(), n_vocab]`.
    ///
    /// # Errors
    ///
    /// As [`extend`](Self::extend).
    pub fn extend_all(&mut self, tokens: &[Token]) -> Result<Vec<f32>> {
        let mut logits = Vec::with_capacity(tokens.len() * self.model.n_vocab());
        let len = self.len();
        for tokens in tokens.chunks(self.max_rows()) {
            if let Err(error) = self.extend_rows(tokens, tokens.len()) {
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

    /// The lengths of the sequence after which it is known what may follow: those of the last pass's rows that still
    /// hold.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.lens.clone()
    }

    /// The logits of the last token in the cache, `[n_vocab]`, unnormalised: what may come next.
    ///
    /// # Panics
    ///
    /// As [`logits_after`](Self::logits_after).
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        self.logits_after(self.len())
    }

    /// The logits of what may follow the first `len` tokens, `[n_vocab]`, unnormalised.
    ///
    /// # Panics
    ///
    /// If `len` is none of the [`rows`](Self::rows), or the pass was lean.
    #[must_use]
    pub fn logits_after(&self, len: usize) -> &[f32] {
        assert!(
            self.rows.lens.contains(&len) && !self.rows.lean,
            "logits are there after a pass"
        );
        self.logits_at(len - 1 - self.rows.start)
    }

    /// The logits after a token of the last batch.
    pub(super) fn logits_at(&self, token: usize) -> &[f32] {
        // SAFETY: the context is live; llama.cpp waits for the pass to end, and gives null for rows without logits.
        let logits = unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), token as i32) };
        assert!(
            !logits.is_null(),
            "llama.cpp keeps the logits that a pass was asked for"
        );
        // SAFETY: not null, so `n_vocab` floats, which stay until the next pass, and passes take `&mut self`.
        unsafe { std::slice::from_raw_parts(logits, self.model.n_vocab()) }
    }

    /// The logits of `candidates` alone, in their order, after the first `len` tokens; `logits` is emptied first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the model's file can no longer be read.
    ///
    /// # Panics
    ///
    /// If `len` is none of the [`rows`](Self::rows), or a candidate is no token of the vocabulary.
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

    /// The logits of `candidates` after a token of the last batch, whose row is the `row`th.
    pub(super) fn logits_of_at(
        &mut self,
        token: usize,
        row: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        if !self.observer.lean {
            let all = self.logits_at(token);
            logits.clear();
            logits.extend(candidates.iter().map(|it| all[it.token as usize]));
            return Ok(());
        }
        assert!(
            candidates.iter().all(|it| self.model.contains(it.token)),
            "tokens of the vocabulary"
        );
        let ContextHead::Apart(head) = &mut self.head else {
            unreachable!("a lean pass has a head");
        };
        let hidden = &self.observer.hidden[row * head.n_embd()..][..head.n_embd()];
        head.logits(hidden, candidates, logits)
    }

    /// Keeps the first `len` tokens in the cache. A cache that cannot be cut there (a recurrent model's) is
    /// emptied: see [`len`](Self::len).
    pub fn truncate(&mut self, len: usize) {
        if len >= self.tokens.len() {
            return;
        }
        let Range { start, end } = self.rows.lens;
        self.rows.lens = start..end.min(len + 1);
        // SAFETY: the memory is the live context's.
        let is_cut = unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_rm(memory, SEQUENCE, len as i32, -1)
        };
        if is_cut {
            self.tokens.truncate(len);
        } else {
            self.clear();
        }
    }

    /// The most tokens of a batch.
    pub(super) fn n_batch(&self) -> usize {
        self.n_batch
    }

    pub(super) fn raw(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }

    pub(super) fn layout(&self) -> &str {
        &self.layout
    }

    /// Says that llama.cpp's cache now holds `tokens`.
    pub(super) fn set_tokens(&mut self, tokens: Vec<Token>) {
        self.tokens = tokens;
        self.rows = Rows::default();
    }

    /// Empties the cache, whatever llama.cpp has left in it.
    pub(super) fn clear(&mut self) {
        // SAFETY: the memory is the live context's.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw()), false) };
        self.set_tokens(Vec::new());
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
        self.rows = Rows::default();
        let (start, end) = (keep as i32, (keep + discard) as i32);
        // SAFETY: the memory is the live context's and can be shifted; the range was in the cache.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_rm(memory, SEQUENCE, start, end);
            sys::llama_memory_seq_add(memory, SEQUENCE, end, -1, start - end);
        }
    }

    /// Decodes `tokens` in batches, the first as small as need be for the others to be full, so that the last `n_rows`
    /// tokens are in one. On an error the cache is restored.
    fn decode(&mut self, tokens: &[Token], n_rows: usize, lean: bool) -> Result<()> {
        self.check(tokens)?;
        let n_rows = n_rows.min(tokens.len());
        assert!(n_rows <= self.max_rows(), "more rows than were asked for");
        let len = self.len();
        let (first, others) = tokens.split_at(tokens.len() % self.n_batch);
        let batches = std::iter::once(first).chain(others.chunks(self.n_batch));
        let mut outputs = vec![0; tokens.len()];
        outputs[tokens.len() - n_rows..].fill(1);
        let lean = self.set_lean(lean)?;
        self.rows = Rows::default();
        for batch in batches.filter(|batch| !batch.is_empty()) {
            self.rows.start = self.len();
            let outputs = &mut outputs[self.len() - len..][..batch.len()];
            if let Err(error) = self.decode_batch(batch, outputs) {
                self.forget_after(len);
                return Err(error);
            }
            self.tokens.extend_from_slice(batch);
        }
        self.rows.lean = lean;
        self.rows.lens = self.len() + 1 - n_rows..self.len() + 1;
        Ok(())
    }

    /// Has the passes that come end before the head, if that is wanted and possible; gives whether they do.
    fn set_lean(&mut self, is_wanted: bool) -> Result<bool> {
        if is_wanted {
            self.find_head()?;
        }
        self.observer.lean = is_wanted && matches!(self.head, ContextHead::Apart(_));
        Ok(self.observer.lean)
    }

    /// Finds out whether lean passes are possible, if a whole pass has been seen.
    fn find_head(&mut self) -> Result<()> {
        if let (ContextHead::Unknown, Some(node)) = (&self.head, &self.observer.head) {
            let weight = match node {
                HeadNode::Product(weight) => self.model.head_weight(weight),
                HeadNode::Other => None,
            };
            let head = weight.map(|weight| Head::open(self.model.path(), weight));
            self.head = match head.transpose()?.flatten() {
                Some(head) => ContextHead::Apart(head),
                None => ContextHead::Whole,
            };
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
        // SAFETY: the batch points to `n_tokens` tokens of the vocabulary and to as many output marks; it is no longer than
        // the context's `n_batch`, with no more outputs than it has room for.
        unsafe { self.run(raw_batch) }
    }

    /// One pass over tokens of several sequences, at `positions` in them, with logits where `outputs` are not 0.
    ///
    /// # Panics
    ///
    /// If there are more tokens than a batch has, or more outputs than rows, or the lengths differ.
    pub(super) fn pass(
        &mut self,
        items: &[(usize, Token)],
        positions: &[i32],
        outputs: &[i8],
        lean: bool,
    ) -> Result<()> {
        let n = items.len();
        assert!(n <= self.n_batch && positions.len() == n && outputs.len() == n);
        assert!(outputs.iter().filter(|&&it| it != 0).count() <= self.n_outputs);
        self.set_lean(lean)?;
        let mut tokens: Vec<Token> = items.iter().map(|it| it.1).collect();
        let mut sequences: Vec<_> = items.iter().map(|it| it.0 as sys::llama_seq_id).collect();
        let mut sequence_lists: Vec<_> = sequences.iter_mut().map(std::ptr::from_mut).collect();
        let mut n_sequences = vec![1; n];
        let (mut positions, mut outputs) = (positions.to_vec(), outputs.to_vec());
        let raw_batch = sys::llama_batch {
            n_tokens: n as i32,
            token: tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: positions.as_mut_ptr(),
            n_seq_id: n_sequences.as_mut_ptr(),
            seq_id: sequence_lists.as_mut_ptr(),
            logits: outputs.as_mut_ptr(),
        };
        // SAFETY: all arrays have `n` entries, within the context's `n_batch` and rows, and outlive the call.
        unsafe { self.run(raw_batch) }
    }

    /// One pass.
    ///
    /// # Safety
    ///
    /// The batch's arrays have as many entries as it has tokens, which are the vocabulary's; it has no more tokens and
    /// outputs than the context has room for.
    unsafe fn run(&mut self, batch: sys::llama_batch) -> Result<()> {
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
        self.observer.hidden.clear();
        // SAFETY: by this function's contract; llama.cpp only reads the batch.
        let code = unsafe { sys::llama_decode(self.raw.as_ptr(), batch) };
        drop(guard);
        self.is_sized = true;
        let operation = || format!("decode {} tokens", batch.n_tokens);
        match code {
            0 => Ok(()),
            1 => Err(Error::Llama {
                operation: operation(),
                reason: "its cache has no room for them".to_owned(),
            }),
            2 => Err(Error::Interrupted),
            _ => Err(log::error(operation())),
        }
    }

    /// Restores the cache to its first `len` tokens after a failed pass, which may have left more in it than
    /// `tokens` tells.
    fn forget_after(&mut self, len: usize) {
        // One more than is there, so that `truncate` does not take its short cut.
        self.tokens.resize(len + 1, 0);
        self.truncate(len);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` is live, and the fields that it uses are dropped after this.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}

/// The only sequence of a context.
pub(super) const SEQUENCE: sys::llama_seq_id = 0;

/// llama.cpp's abort callback.
///
/// # Safety
///
/// `flag` must point to a live [`AtomicBool`].
unsafe extern "C" fn is_set(flag: *mut c_void) -> bool {
    // SAFETY: by this function's contract.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}
