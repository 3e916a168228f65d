//! A node of candle's graph whose value and gradients are computed outside of it.
//!
//! candle computes the gradients of both operands of every product and keeps them until the step ends. For a frozen
//! weight, that is a third of the work and a matrix of the weight's size for nothing. It also adds each gradient of
//! each operation to zeros, which on a GPU takes longer to start than to compute. So most of a pass is computed on
//! detached tensors, and enters the graph with gradients of our own.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp3, Layout, MetalStorage, Result, Shape, Tensor,
};

/// Puts `y` into candle's graph as the result of an operation on `inputs`, one or two tensors, from whose values it was
/// computed. `gradients` computes the inputs' gradients from that of `y`.
pub fn custom_grad<const N: usize>(
    inputs: [&Tensor; N],
    y: &Tensor,
    gradients: impl Fn(&Tensor) -> Result<[Tensor; N]> + Send + Sync + 'static,
) -> Result<Tensor> {
    let y = y.detach().contiguous()?;
    if inputs.iter().all(|input| !input.track_op()) {
        return Ok(y);
    }
    let second = inputs.get(1).copied().unwrap_or(&y);
    inputs[0].apply_op3(second, &y, CustomGrad { gradients })
}

struct CustomGrad<G> {
    gradients: G,
}

impl<const N: usize, G: Fn(&Tensor) -> Result<[Tensor; N]>> CustomOp3 for CustomGrad<G> {
    fn name(&self) -> &'static str {
        "custom_grad"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        y: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        copy(y, layout)
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        y: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        copy(y, layout)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        y: &MetalStorage,
        layout: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        copy(y, layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = (self.gradients)(dy)?.into_iter();
        Ok((gradients.next(), gradients.next(), None))
    }
}

/// Copies a contiguous tensor that fills its storage.
fn copy<S: BackendStorage>(storage: &S, layout: &Layout) -> Result<(S, Shape)> {
    Ok((storage.try_clone(layout)?, layout.shape().clone()))
}
