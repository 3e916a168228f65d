//! The output head, computed for some tokens instead of all.
//!
//! A model's last step multiplies the hidden state of a position, `[n_embd]`, by a row of the output head for each token of
//! the vocabulary. With small models this step is up to two thirds of a pass, and a few candidates need only their own rows.
//! So a *lean* pass ends before that step and keeps the hidden states, and [`CandidateHead::logits`] computes
//!
//! ```text
//! logit(y) = head[y] · hidden
//! ```
//!
//! by ggml's dot product for the head's type, which rounds the hidden state as ggml's matmul does.
//!
//! The whole head can be computed after such a pass too ([`WholeHead`]): by all threads, while the pass had only a part of
//! them because another model's pass ran at the same time.

mod whole;

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use cope_contrast::Candidate;
use cope_convert::gguf::TensorInfo;

pub(super) use whole::WholeHead;

use super::sys;
use crate::{Error, Result};

/// llama.cpp's names of the last two nodes of a graph.
const HIDDEN: &CStr = c"result_norm";
const LOGITS: &CStr = c"result_output";

/// Observes the nodes of a context's passes, as llama.cpp's `cb_eval`.
#[derive(Debug, Default)]
pub(super) struct NodeObserver {
    /// Whether the next pass ends before the output head.
    pub lean: bool,
    /// The hidden states of the last lean pass, `[n_rows, n_embd]`, in the order in which they were computed.
    pub hidden: Vec<f32>,
    /// The kind of output head, once a pass with it was observed.
    pub head: Option<HeadNode>,
}

/// The last step of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeadNode {
    /// The product of the hidden states and a weight of the model, with its name, and nothing else.
    Product(String, NonNull<sys::ggml_tensor>),
    /// A node that computes more: an adapter's part, a scale, a soft cap.
    Other,
}

impl NodeObserver {
    /// The callback, and its pointer to `self`, which must outlive the context.
    pub fn callback(&mut self) -> (sys::ggml_backend_sched_eval_callback, *mut c_void) {
        (Some(observe), std::ptr::from_mut(self).cast())
    }
}

/// llama.cpp's `cb_eval`. Before a node is computed (`is_question`), returns whether its value is wanted; after a wanted
/// node, stores its value and returns whether the pass continues.
///
/// # Safety
///
/// `tensor` must be a live node and `observer` an [`NodeObserver`] that nothing else uses during the call.
unsafe extern "C" fn observe(
    tensor: *mut sys::ggml_tensor,
    is_question: bool,
    observer: *mut c_void,
) -> bool {
    // SAFETY: this function's contract; ggml's names are NUL-terminated.
    let (observer, name) = unsafe {
        let observer = &mut *observer.cast::<NodeObserver>();
        (observer, CStr::from_ptr((*tensor).name.as_ptr()))
    };
    if is_question {
        if name == LOGITS && observer.head.is_none() {
            // SAFETY: a live node, this function's contract.
            observer.head = Some(unsafe { head_node(tensor) });
        }
        return observer.lean && name == HIDDEN;
    }
    // SAFETY: a live node that has been computed; `hidden` gets room for its bytes at the end.
    unsafe {
        let (len, n_bytes) = (observer.hidden.len(), sys::ggml_nbytes(tensor));
        observer
            .hidden
            .resize(len + n_bytes / size_of::<f32>(), 0.0);
        let end = observer.hidden.as_mut_ptr().add(len);
        sys::ggml_backend_tensor_get(tensor, end.cast(), 0, n_bytes);
    }
    false
}

/// The kind of output head that the node `tensor` computes.
///
/// # Safety
///
/// `tensor` must be a live node of a graph.
unsafe fn head_node(tensor: *const sys::ggml_tensor) -> HeadNode {
    // SAFETY: sources of a live node are null or live, and their names NUL-terminated.
    unsafe {
        let [weight, input] = [(*tensor).src[0], (*tensor).src[1]];
        let is_product = (*tensor).op == sys::GGML_OP_MUL_MAT
            && !input.is_null()
            && CStr::from_ptr((*input).name.as_ptr()) == HIDDEN;
        match NonNull::new(weight) {
            Some(weight) if is_product => {
                let name = CStr::from_ptr(weight.as_ref().name.as_ptr());
                HeadNode::Product(name.to_string_lossy().into_owned(), weight)
            }
            _ => HeadNode::Other,
        }
    }
}

/// The rows of an output head, read from the model's file one by one. The system's page cache keeps the rows that are used.
#[derive(Debug)]
pub(super) struct CandidateHead {
    path: Arc<Path>,
    file: File,
    offset: u64,
    row_bytes: usize,
    n_embd: usize,
    kernels: sys::ggml_type_traits_cpu,
    /// A row of the head; in 64-bit words, so that it is aligned.
    row: Vec<u64>,
    /// The hidden state in the type that a row is multiplied with; in 64-bit words too.
    state: Vec<u64>,
}

impl CandidateHead {
    /// The head whose matrix is `weight` of a model's file; `None` if ggml's CPU kernels have no dot product for its
    /// type.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be opened.
    pub fn open(weight: &TensorInfo) -> Result<Option<Self>> {
        let ggml_type = weight.ggml_type as sys::ggml_type;
        // SAFETY: every `GgmlType` is a type of ggml's, for which it has a constant entry.
        let kernels = unsafe { *sys::ggml_get_type_traits_cpu(ggml_type) };
        if kernels.vec_dot.is_none() {
            return Ok(None);
        }
        let n_embd = weight.shape[0] as usize;
        // SAFETY: both types have whole rows of `n_embd` values: the file was checked, and ggml's own matmul needs them.
        let [row_bytes, state_bytes] = unsafe {
            [ggml_type, kernels.vec_dot_type].map(|it| sys::ggml_row_size(it, n_embd as i64))
        };
        let words = |bytes: usize| vec![0; bytes.div_ceil(size_of::<u64>())];
        Ok(Some(Self {
            path: Arc::clone(&weight.path),
            file: File::open(&weight.path).map_err(Error::io("open", &weight.path))?,
            offset: weight.offset,
            row_bytes,
            n_embd,
            kernels,
            row: words(row_bytes),
            state: words(state_bytes),
        }))
    }

    /// The length of a hidden state.
    pub fn n_embd(&self) -> usize {
        self.n_embd
    }

    /// Writes the logits of `candidates` after a hidden state, `[n_embd]`, to `logits`, in their order; `logits` is emptied
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the model's file can no longer be read.
    pub fn logits(
        &mut self,
        hidden: &[f32],
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        assert_eq!(hidden.len(), self.n_embd, "a hidden state of this model");
        self.round(hidden);
        let dot = self.kernels.vec_dot.expect("checked when opened");
        logits.clear();
        for candidate in candidates {
            self.read_row(candidate.token as usize)
                .map_err(Error::io("read", &self.path))?;
            let mut logit = 0.0;
            // SAFETY: both rows hold `n_embd` values of the types that this dot product takes; for one row it does not use
            // the strides.
            unsafe {
                let (row, state) = (self.row.as_ptr().cast(), self.state.as_ptr().cast());
                dot(self.n_embd as i32, &raw mut logit, 0, row, 0, state, 0, 1);
            }
            logits.push(logit);
        }
        Ok(())
    }

    /// Rounds a hidden state to the type that the head's rows are multiplied with.
    fn round(&mut self, hidden: &[f32]) {
        let state = self.state.as_mut_ptr();
        match self.kernels.from_float {
            // SAFETY: `state` has room for `n_embd` values of this type.
            Some(from_float) if self.kernels.vec_dot_type != sys::GGML_TYPE_F32 => unsafe {
                from_float(hidden.as_ptr(), state.cast(), self.n_embd as i64);
            },
            // SAFETY: `state` has room for `n_embd` values of 32 bits, and is another allocation.
            _ => unsafe {
                std::ptr::copy_nonoverlapping(hidden.as_ptr(), state.cast(), self.n_embd);
            },
        }
    }

    /// Reads the row of a token into `row`.
    fn read_row(&mut self, token: usize) -> std::io::Result<()> {
        let start = self.offset + (token * self.row_bytes) as u64;
        self.file.seek(SeekFrom::Start(start))?;
        // SAFETY: any bytes are valid in a u64, and `row` has at least `row_bytes` bytes.
        let row = unsafe {
            std::slice::from_raw_parts_mut(self.row.as_mut_ptr().cast::<u8>(), self.row_bytes)
        };
        self.file.read_exact(row)
    }
}
