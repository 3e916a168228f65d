//! The passes of a context, and the rows that they keep.

use std::sync::atomic::Ordering;
use std::time::Instant;

use cope_contrast::Candidate;

use super::{Context, ContextHead, KeptRows, Rows};
use crate::llama::output_head::{CandidateHead, HeadNode, WholeHead};
use crate::llama::pace::Watch;
use crate::llama::{Token, exclusive, log, sys};
use crate::{Error, Result};

impl Context {
    /// The logits after the `token`th token of the last batch, whose row is the `row`th.
    ///
    /// # Panics
    ///
    /// If the pass kept no row for the token, or left the output head out and [`finish`](Self::finish) was not called: the
    /// logits that llama.cpp then holds were never computed.
    pub(in crate::llama) fn logits_at(&self, token: usize, row: usize) -> &[f32] {
        if let ContextHead::Apart(_, Some(head)) = &self.head
            && self.has_whole_rows
        {
            return head.row(row);
        }
        assert!(!self.observer.lean, "the pass left the output head out");
        // SAFETY: the context is live; llama.cpp waits for the pass to end, and gives null for rows without logits.
        let logits = unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), token as i32) };
        assert!(
            !logits.is_null(),
            "llama.cpp keeps the logits that a pass was asked for"
        );
        // SAFETY: not null, so `n_vocab` floats, which stay until the next pass, and passes take `&mut self`.
        unsafe { std::slice::from_raw_parts(logits, self.model.n_vocab()) }
    }

    /// Writes the logits of `candidates` after the `token`th token of the last batch, whose row is the `row`th, to `logits`.
    pub(in crate::llama) fn logits_of_at(
        &mut self,
        token: usize,
        row: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        if !self.observer.lean || self.has_whole_rows {
            let all = self.logits_at(token, row);
            logits.clear();
            logits.extend(candidates.iter().map(|it| all[it.token as usize]));
            return Ok(());
        }
        assert!(
            candidates.iter().all(|it| self.model.contains(it.token)),
            "tokens of the vocabulary"
        );
        let ContextHead::Apart(head, _) = &mut self.head else {
            unreachable!("a pass without the head is made only if there is a candidate head");
        };
        let hidden = &self.observer.hidden[row * head.n_embd()..][..head.n_embd()];
        head.logits(hidden, candidates, logits)
    }

    /// Decodes `tokens` in batches. The first batch takes the remainder and the others are full, so that the last `n_rows`
    /// tokens are in one batch. On an error the cache is restored.
    pub(super) fn decode(&mut self, tokens: &[Token], n_rows: usize, rows: Rows) -> Result<()> {
        self.check(tokens)?;
        let n_rows = n_rows.min(tokens.len());
        assert!(
            n_rows <= self.max_rows(),
            "no more rows than the context's options ask for"
        );
        let len = self.len();
        let (first, others) = tokens.split_at(tokens.len() % self.n_batch);
        let batches = std::iter::once(first).chain(others.chunks(self.n_batch));
        let mut outputs = vec![0; tokens.len()];
        outputs[tokens.len() - n_rows..].fill(1);
        self.prepare(rows)?;
        self.rows = KeptRows::default();
        for batch in batches.filter(|batch| !batch.is_empty()) {
            self.rows.start = self.len();
            let outputs = &mut outputs[self.len() - len..][..batch.len()];
            if let Err(error) = self.decode_batch(batch, outputs) {
                self.forget_after(len);
                return Err(error);
            }
            self.tokens.extend_from_slice(batch);
            // A state is kept after each of the last tokens of the batch.
            let n_kept = (self.max_cut()).min(batch.len() - 1);
            self.keep_from(self.len() - n_kept);
        }
        self.rows.lens = self.len() + 1 - n_rows..self.len() + 1;
        Ok(())
    }

    /// Makes the next passes end before the output head, if `rows` asks for that and it is possible.
    fn prepare(&mut self, rows: Rows) -> Result<()> {
        if rows != Rows::Full {
            self.find_head()?;
        }
        self.has_whole_rows = false;
        self.observer.lean = match rows {
            Rows::Full => false,
            Rows::Candidates => matches!(self.head, ContextHead::Apart(..)),
            Rows::Deferred => matches!(self.head, ContextHead::Apart(_, Some(_))),
        };
        Ok(())
    }

    /// Finds out whether passes without the output head are possible, once a pass with it was observed.
    fn find_head(&mut self) -> Result<()> {
        if let (ContextHead::Unknown, Some(node)) = (&self.head, &self.observer.head) {
            let HeadNode::Product(name, weight) = node else {
                self.head = ContextHead::Whole;
                return Ok(());
            };
            let stored = self.model.head_weight(name);
            let head = stored.map(CandidateHead::open);
            self.head = match head.transpose()?.flatten() {
                Some(head) => {
                    // SAFETY: the weight is the model's, which this context keeps alive.
                    let whole = unsafe { WholeHead::new(*weight) };
                    ContextHead::Apart(Box::new(head), whole)
                }
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

    /// Runs one pass over `batch`, whose tokens follow those in llama.cpp's cache.
    fn decode_batch(&mut self, batch: &[Token], outputs: &mut [i8]) -> Result<()> {
        let raw_batch = sys::llama_batch {
            n_tokens: batch.len() as i32,
            token: batch.as_ptr().cast_mut(),
            embd: std::ptr::null_mut(),
            // Null positions and sequences mean: after the tokens in the cache, in sequence 0.
            pos: std::ptr::null_mut(),
            n_seq_id: std::ptr::null_mut(),
            seq_id: std::ptr::null_mut(),
            logits: outputs.as_mut_ptr(),
        };
        // SAFETY: the batch points to `n_tokens` tokens of the vocabulary and to as many output marks; it is no longer than
        // the context's `n_batch`, with no more outputs than it has room for.
        unsafe { self.run(raw_batch) }
    }

    /// Runs one pass over tokens of several sequences, at `positions` in them, and keeps a row after each token whose output
    /// is not 0. `items` are (sequence, token).
    ///
    /// # Panics
    ///
    /// If there are more tokens than a batch can have, or more outputs than rows, or the lengths differ.
    pub(in crate::llama) fn pass(
        &mut self,
        items: &[(usize, Token)],
        positions: &[i32],
        outputs: &[i8],
        rows: Rows,
    ) -> Result<()> {
        let n = items.len();
        assert!(n <= self.n_batch && positions.len() == n && outputs.len() == n);
        assert!(outputs.iter().filter(|&&it| it != 0).count() <= self.n_outputs);
        self.prepare(rows)?;
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

    /// Runs one pass, with fewer threads if others take their time ([`Pace`](crate::llama::pace::Pace)).
    ///
    /// # Safety
    ///
    /// The batch's arrays have as many entries as it has tokens, which are the vocabulary's; it has no more tokens and
    /// outputs than the context has room for.
    unsafe fn run(&mut self, batch: sys::llama_batch) -> Result<()> {
        // On a CPU, ggml asks the watch between operations; on other devices, only this check sees the flag.
        let interrupt = self.interrupt.clone();
        let interrupt = interrupt.as_deref();
        loop {
            if interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(Error::Interrupted);
            }
            let n_threads = self.n_threads_now();
            let watch = Watch::new(interrupt, if self.is_repeatable { n_threads } else { 1 });
            // SAFETY: this function's contract.
            let code = unsafe { self.run_watched(batch, n_threads, &watch) };
            if watch.is_starved() {
                self.pace.starved(n_threads, Instant::now());
            } else {
                self.pace.fared_well(n_threads);
            }
            let operation = || format!("decode {} tokens", batch.n_tokens);
            return match code {
                0 => Ok(()),
                1 => Err(Error::Llama {
                    operation: operation(),
                    reason: "its cache has no room for them".to_owned(),
                }),
                2 if watch.is_starved() => {
                    // SAFETY: this function's contract.
                    unsafe { self.take_back(batch) };
                    continue;
                }
                2 => Err(Error::Interrupted),
                _ => Err(log::error(operation())),
            };
        }
    }

    /// Runs one pass with `n_threads`, which `watch` can end. Returns llama.cpp's code.
    ///
    /// # Safety
    ///
    /// The contract of [`run`](Self::run).
    unsafe fn run_watched(
        &mut self,
        batch: sys::llama_batch,
        n_threads: i32,
        watch: &Watch<'_>,
    ) -> i32 {
        let guard = (!self.is_sized).then(exclusive);
        log::forget();
        self.observer.hidden.clear();
        let (ends, data) = watch.callback();
        // SAFETY: this function's contract; llama.cpp only reads the batch. The watch outlives the pass, and is no longer
        // asked after it.
        let code = unsafe {
            let raw = self.raw.as_ptr();
            sys::llama_set_n_threads(raw, n_threads, n_threads);
            sys::llama_set_abort_callback(raw, Some(ends), data);
            let code = sys::llama_decode(raw, batch);
            sys::llama_set_abort_callback(raw, None, std::ptr::null_mut());
            code
        };
        drop(guard);
        self.is_sized = true;
        code
    }

    /// Removes the tokens of a pass that was ended from the cache. llama.cpp reads sequences whose numbers do not follow one
    /// another in several parts, and removes only the part in which the pass was ended.
    ///
    /// # Safety
    ///
    /// The contract of [`run`](Self::run).
    unsafe fn take_back(&self, batch: sys::llama_batch) {
        // A batch without positions is of one sequence, and so of one part.
        if batch.pos.is_null() {
            return;
        }
        for index in 0..batch.n_tokens as usize {
            // SAFETY: this function's contract; the memory belongs to the live context.
            unsafe {
                let (sequence, position) = (**batch.seq_id.add(index), *batch.pos.add(index));
                let memory = sys::llama_get_memory(self.raw.as_ptr());
                sys::llama_memory_seq_rm(memory, sequence, position, -1);
            }
        }
    }

    /// Restores the cache to its first `len` tokens after a failed pass, which may have left more in the cache than
    /// `tokens` records.
    fn forget_after(&mut self, len: usize) {
        // One token more than there is, so that `truncate` does not return early.
        self.tokens.resize(len + 1, 0);
        self.keep_from(len + 1);
        self.truncate(len);
    }
}
