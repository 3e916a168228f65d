//! Linear layers with a frozen weight on a device, and their adapters: [`super::super::ops::linear`] in candle's
//! operations.

use candle_core::{DType, Device, Result, Tensor};

use super::super::lora::LayerLora;
use super::super::ops::dropout::Dropout;
use super::super::ops::linear::FrozenWeight;
use super::given;

/// A frozen weight.
pub struct Linear {
    /// `[out, in]`
    weight: Tensor,
    /// `[out]`
    bias: Option<Tensor>,
}

/// A pair of matrices of an adapter, `[rank, in]` and `[out, rank]`.
pub struct LowRank {
    a: Tensor,
    b: Tensor,
    lora_scale: f32,
    dropout: Option<Dropout>,
}

/// A block's adapters, in the order of `TargetModule::ALL`.
#[derive(Default)]
pub struct Adapters([Option<LowRank>; 7]);

impl Adapters {
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
                let matrix =
                    |start, rows, cols| flat.narrow(0, start, rows * cols)?.reshape((rows, cols));
                let (rank, n_in, n_out) = (layout.rank, place.n_in, place.n_out);
                *adapter = Some(LowRank {
                    a: matrix(place.start, rank, n_in)?,
                    b: matrix(place.start + rank * n_in, n_out, rank)?,
                    lora_scale: layout.lora_scale,
                    dropout: place.dropout,
                });
            }
        }
        Ok(adapters)
    }

    /// That of the layer `target`.
    pub fn of(&self, target: usize) -> Option<&LowRank> {
        self.0[target].as_ref()
    }
}

impl Linear {
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
    pub fn forward(&self, x: &Tensor, lora: Option<&LowRank>) -> Result<Tensor> {
        let mut y = product(&x.detach(), &self.weight.t()?)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        let weight = self.weight.clone();
        let y = given(x, &y, move |dy| product(dy, &weight))?;
        match lora {
            Some(lora) => y + lora.forward(x)?,
            None => Ok(y),
        }
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

impl LowRank {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match self.dropout {
            Some(dropout) => {
                let (t, width) = x.dims2()?;
                let kept = dropout.of(&vec![1.0; t * width], width);
                (x * Tensor::from_vec(kept, (t, width), x.device())?)?
            }
            None => x.clone(),
        };
        let low = x.matmul(&self.a.t()?)?.matmul(&self.b.t()?)?;
        low * f64::from(self.lora_scale)
    }
}

/// `x · w` in the type of `w`, the result in f32.
fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?.to_dtype(w.dtype())?;
    x.matmul(w)?.to_dtype(DType::F32)
}
