//! The whole output head, computed after the pass.

use std::ptr::NonNull;

use crate::llama::threads::Threads;
use crate::llama::{log, sys};
use crate::{Error, Result};

/// The last step of a model's graph in a graph of its own. It is the same product by the same kernels, so that the logits
/// are those of a whole pass to the bit.
#[derive(Debug)]
pub(in crate::llama) struct WholeHead {
    /// The model's weight, `[n_vocab, n_embd]`; the model outlives this.
    weight: NonNull<sys::ggml_tensor>,
    n_embd: usize,
    n_vocab: usize,
    /// The work buffer of ggml's kernels.
    work: Vec<u8>,
    /// The logits of the last computation, `[n_rows, n_vocab]`.
    logits: Vec<f32>,
}

/// The number of nodes of the graph: the hidden states, and their product with the weight.
const N_NODES: usize = 2;

impl WholeHead {
    /// The head whose matrix is `weight`; `None` if the weight lies on a device.
    ///
    /// # Safety
    ///
    /// `weight` must be a live matrix of a model that outlives this.
    pub unsafe fn new(weight: NonNull<sys::ggml_tensor>) -> Option<Self> {
        // SAFETY: this function's contract; weights have buffers.
        let (shape, is_host) = unsafe {
            let weight = weight.as_ref();
            let is_host =
                !weight.buffer.is_null() && sys::ggml_backend_buffer_is_host(weight.buffer);
            (weight.ne, is_host)
        };
        is_host.then(|| Self {
            weight,
            n_embd: shape[0] as usize,
            n_vocab: shape[1] as usize,
            work: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// The logits of one row of the last computation, `[n_vocab]`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.logits[row * self.n_vocab..][..self.n_vocab]
    }

    /// Computes the logits after the `hidden` states, `[n_rows, n_embd]`, with `n_threads` of `threads`.
    ///
    /// # Errors
    ///
    /// [`Error::Llama`] if ggml has no memory or fails.
    pub fn compute(
        &mut self,
        hidden: &[f32],
        n_threads: i32,
        threads: Option<&Threads>,
    ) -> Result<()> {
        let n_rows = hidden.len() / self.n_embd;
        self.logits.resize(n_rows * self.n_vocab, 0.0);
        let pool = threads.map_or(std::ptr::null_mut(), Threads::raw);
        // SAFETY: the objects live until `ggml_free`; the product reads `weight` and `hidden`, and writes `logits`, all of
        // the sizes of their shapes, and `work`, which has the size that the plan asks for.
        let status = unsafe {
            let context = sys::ggml_init(sys::ggml_init_params {
                mem_size: (N_NODES + 1) * sys::ggml_tensor_overhead()
                    + sys::ggml_graph_overhead_custom(N_NODES, false),
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            });
            if context.is_null() {
                return Err(log::error("compute the output head"));
            }
            let (n_embd, n_rows) = (self.n_embd as i64, n_rows as i64);
            let states = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, n_embd, n_rows);
            (*states).data = hidden.as_ptr().cast_mut().cast();
            let product = sys::ggml_mul_mat(context, self.weight.as_ptr(), states);
            (*product).data = self.logits.as_mut_ptr().cast();
            let graph = sys::ggml_new_graph_custom(context, N_NODES, false);
            sys::ggml_build_forward_expand(graph, product);
            let mut plan = sys::ggml_graph_plan(graph, n_threads, pool);
            self.work.resize(plan.work_size, 0);
            plan.work_data = self.work.as_mut_ptr();
            let status = sys::ggml_graph_compute(graph, &raw mut plan);
            sys::ggml_free(context);
            status
        };
        if status == sys::GGML_STATUS_SUCCESS {
            Ok(())
        } else {
            Err(Error::Llama {
                operation: "compute the output head".to_owned(),
                reason: format!("ggml's status is {status}"),
            })
        }
    }
}
