//! A tensor that was computed outside candle's graph, as a part of it.
//!
//! candle computes the gradients of both sides of every product and keeps them until the step ends: with a frozen weight
//! a third of the work, and a matrix of the weight's size, for nothing. So such a product is computed apart, and its
//! result is put in the graph with the one gradient that is asked for.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor,
};

/// `y`, computed from the values of `x` alone, as the result of an operation on `x`. `gradient` turns the gradient of
/// `y` into that of `x`.
pub fn given(
    x: &Tensor,
    y: &Tensor,
    gradient: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    x.apply_op2(&y.detach().contiguous()?, Given { gradient })
}

struct Given<G> {
    gradient: G,
}

impl<G: Fn(&Tensor) -> Result<Tensor>> CustomOp2 for Given<G> {
    fn name(&self) -> &'static str {
        "given"
    }

    fn cpu_fwd(
        &self,
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
        y: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        copy(y, layout)
    }

    fn metal_fwd(
        &self,
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
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some((self.gradient)(dy)?), None))
    }
}

/// Of a contiguous tensor that fills its storage.
fn copy<S: BackendStorage>(storage: &S, layout: &Layout) -> Result<(S, Shape)> {
    Ok((storage.try_clone(layout)?, layout.shape().clone()))
}
