//! Linear layers with a frozen weight on a device, and their adapters: [`super::super::ops::linear`] in candle's
//! operations, with the same gradients.

use candle_core::{DType, Device, Result, Tensor};

use super::super::block::projection::Projection;
use super::super::lora::{LayerLora, TargetModule};
use super::super::ops::dropout::Dropout;
use super::super::ops::linear::FrozenWeight;
use super::custom_grad::custom_grad;

/// A linear layer with a frozen weight.
pub struct CandleLinear {
    /// The weight, `[out, in]`.
    weight: Tensor,
    /// The bias, `[out]`.
    bias: Option<Tensor>,
}

/// A linear layer of a block, and its name, by which its adapter is found.
pub struct CandleProjection {
    target: TargetModule,
    weight: CandleLinear,
}

impl CandleProjection {
    /// A copy on `device`, in `dtype`.
    pub fn new(linear: &Projection, device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self {
            target: linear.target,
            weight: CandleLinear::new(&linear.weight, device, dtype)?,
        })
    }
}

/// A pair of matrices of an adapter.
pub struct CandleLowRank {
    /// `A`, `[rank, in]`, and after it `B`, `[out, rank]`.
    matrices: Tensor,
    rank: usize,
    lora_scale: f32,
    dropout: Option<Dropout>,
}

/// A block's adapters, in the order of `TargetModule::ALL`.
#[derive(Default)]
pub struct CandleAdapters([Option<CandleLowRank>; TargetModule::N]);

impl CandleAdapters {
    /// A copy on `device`.
    pub fn new(lora: LayerLora, device: &Device) -> Result<Self> {
        let LayerLora { flat, layout } = lora;
        let mut adapters = Self::default();
        if flat.elem_count() == 0 {
            return Ok(adapters);
        }
        let flat = flat.to_device(device)?;
        for (adapter, place) in adapters.0.iter_mut().zip(layout.places()) {
            if let Some(place) = place {
                let a = flat.narrow(0, place.a, layout.rank * place.n_in)?;
                let b = flat.narrow(0, place.b, layout.rank * place.n_out)?;
                *adapter = Some(CandleLowRank {
                    matrices: Tensor::cat(&[a, b], 0)?,
                    rank: layout.rank,
                    lora_scale: layout.lora_scale,
                    dropout: place.dropout,
                });
            }
        }
        Ok(adapters)
    }

    /// `linear(x)` with its adapter: `[t, in]` → `[t, out]`.
    pub fn apply(&self, linear: &CandleProjection, x: &Tensor) -> Result<Tensor> {
        let lora = self.0[linear.target as usize].as_ref();
        linear.weight.forward(x, lora)
    }
}

impl CandleLinear {
    /// A copy on `device`, in `dtype`.
    pub fn new(weight: &FrozenWeight, device: &Device, dtype: DType) -> Result<Self> {
        let shape = (weight.n_out(), weight.n_in());
        let mut values = Vec::with_capacity(shape.0 * shape.1);
        (0..shape.0).for_each(|row| values.extend(weight.row(row)));
        let values = Tensor::from_vec(values, shape, &Device::Cpu)?;
        let bias = weight.bias().map(|bias| Tensor::new(bias, device));
        Ok(Self {
            weight: values.to_dtype(dtype)?.to_device(device)?,
            bias: bias.transpose()?,
        })
    }

    /// Number of output features.
    pub fn n_out(&self) -> usize {
        self.weight.dims()[0]
    }

    /// `x Wᵀ + b + s (x Aᵀ) Bᵀ`: `[t, in]` → `[t, out]`.
    pub fn forward(&self, x: &Tensor, lora: Option<&CandleLowRank>) -> Result<Tensor> {
        let kept = x.detach();
        let mut y = product(&kept, &self.weight.t()?)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        let weight = self.weight.clone();
        let Some(lora) = lora else {
            return custom_grad([x], &y, move |dy| Ok([product(dy, &weight)?]));
        };
        let (a, b) = lora.split(kept.dim(1)?)?;
        let (lora_scale, mask) = (f64::from(lora.lora_scale), lora.mask(&kept)?);
        let dropped = move |x: Tensor| match &mask {
            Some(mask) => x * mask,
            None => Ok(x),
        };
        let x_of_a = dropped(kept)?;
        let low = (x_of_a.matmul(&a.t()?)? * lora_scale)?;
        let y = (y + low.matmul(&b.t()?)?)?;
        custom_grad([x, &lora.matrices], &y, move |dy| {
            let d_low = (dy.matmul(&b)? * lora_scale)?;
            let dx = (product(dy, &weight)? + dropped(d_low.matmul(&a)?)?)?;
            let d_a = d_low.t()?.matmul(&x_of_a)?.flatten_all()?;
            let d_b = dy.t()?.matmul(&low)?.flatten_all()?;
            Ok([dx, Tensor::cat(&[d_a, d_b], 0)?])
        })
    }

    /// `dy W`: `[t, out]` → `[t, in]`.
    pub fn backward(&self, dy: &Tensor) -> Result<Tensor> {
        product(dy, &self.weight)
    }

    /// Rows of `W`, `[n, in]`.
    pub fn rows(&self, indices: &Tensor) -> Result<Tensor> {
        self.weight.index_select(indices, 0)?.to_dtype(DType::F32)
    }
}

impl CandleLowRank {
    /// The values of `A`, `[rank, in]`, and of `B`, `[out, rank]`.
    fn split(&self, n_in: usize) -> Result<(Tensor, Tensor)> {
        let (values, n_a) = (self.matrices.detach(), self.rank * n_in);
        let a = values.narrow(0, 0, n_a)?.reshape((self.rank, n_in))?;
        let b = values.narrow(0, n_a, values.elem_count() - n_a)?;
        Ok((a, b.reshape(((), self.rank))?))
    }

    /// The factors that dropout multiplies `x`, `[t, in]`, by on its way into `A`; `None` without dropout.
    fn mask(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let (t, width) = x.dims2()?;
        let mask = |dropout: Dropout| {
            let kept = dropout.dropped(&vec![1.0; t * width], width);
            Tensor::from_vec(kept, (t, width), x.device())
        };
        self.dropout.map(mask).transpose()
    }
}

/// `x · w`, computed in the type of `w` and converted to f32.
fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?.to_dtype(w.dtype())?;
    x.matmul(w)?.to_dtype(DType::F32)
}
