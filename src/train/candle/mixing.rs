//! The mixers in candle's operations. Where each row needs the state of the row before, which a device would compute row by
//! row, the rows are copied to the CPU, and our own operations compute them there.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::super::block::attention::Attention;
use super::super::block::delta_net::DeltaNet;
use super::super::block::key_layers::KeyLayers;
use super::super::block::mixer::Mixer;
use super::super::block::recall::Recall;
use super::super::block::short_conv::ShortConv;
use super::super::ops::attention::Heads;
use super::super::ops::causal_conv::CausalConv;
use super::super::ops::delta_core::{CoreInputs, DeltaCore, channels};
use super::super::ops::lineage::Lineage;
use super::custom_grad::custom_grad;
use super::linear::{CandleAdapters, CandleProjection};
use super::rows::{Norm, Rotations, copied, normed_parts, sigmoid};

/// The mixer of a block.
pub enum CandleMixer {
    Attention(CandleAttention),
    ShortConv(CandleShortConv),
    DeltaNet(CandleDeltaNet),
}

/// The rows of a pass, as a mixer sees them.
pub struct CandleView<'a> {
    pub adapters: &'a CandleAdapters,
    /// `None` for a block without a rotation.
    pub rotations: Option<&'a Rotations>,
    pub lineage: &'a Arc<Lineage>,
    /// The block's own input, `[t, n_input]`, if it has one.
    pub input: Option<&'a Tensor>,
    /// The memory of a mixer with states.
    pub recall: Option<Recall<'a>>,
}

/// The inputs of attention, `[t, n_heads, head_dim]` each. It returns `[t, n_head · head_dim]`.
pub struct Attended<'a> {
    pub q: &'a Tensor,
    /// Keys and values; `None` where they are those of an earlier block.
    pub keys: Option<(Tensor, Tensor)>,
    pub heads: Heads,
}

impl CandleMixer {
    /// A copy on `device`, with its matrices in `dtype`.
    pub fn new(mixer: &Mixer, device: &Device, dtype: DType) -> Result<Self> {
        Ok(match mixer {
            Mixer::Attention(mixer) => Self::Attention(CandleAttention::new(mixer, device, dtype)?),
            Mixer::ShortConv(mixer) => Self::ShortConv(CandleShortConv::new(mixer, device, dtype)?),
            Mixer::DeltaNet(mixer) => Self::DeltaNet(CandleDeltaNet::new(mixer, device, dtype)?),
        })
    }

    /// Runs the mixer on `n`, `[t, n_embd]`, with `attend` for attention.
    pub fn forward(
        &self,
        n: &Tensor,
        view: CandleView,
        attend: impl FnOnce(Attended) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self {
            Self::Attention(mixer) => mixer.forward(n, view.adapters, view.rotations, attend),
            Self::ShortConv(mixer) => mixer.forward(n, view),
            Self::DeltaNet(mixer) => mixer.forward(n, view),
        }
    }
}

/// Attention before its output projection.
pub struct CandleAttention {
    q: CandleProjection,
    q_norm: Option<Norm>,
    keys: Option<CandleKeys>,
    heads: Heads,
    has_gate: bool,
}

impl CandleAttention {
    /// A copy on `device`, with its matrices in `dtype`.
    pub fn new(attention: &Attention, device: &Device, dtype: DType) -> Result<Self> {
        let keys = attention.keys.as_ref();
        let keys = keys.map(|keys| CandleKeys::new(keys, device, dtype));
        Ok(Self {
            q: CandleProjection::new(&attention.q, device, dtype)?,
            q_norm: copied(attention.q_norm.as_ref(), device)?,
            keys: keys.transpose()?,
            heads: attention.heads,
            has_gate: attention.has_gate,
        })
    }

    /// Runs the mixer on `n`, `[t, n_embd]`.
    pub fn forward(
        &self,
        n: &Tensor,
        adapters: &CandleAdapters,
        rotations: Option<&Rotations>,
        attend: impl FnOnce(Attended) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let heads = self.heads;
        let mut q = adapters.apply(&self.q, n)?;
        let mut gate = None;
        if self.has_gate {
            let dim = heads.head_dim;
            let parts = q.reshape(((), heads.n_head, 2 * dim))?;
            gate = Some(parts.narrow(2, dim, dim)?.flatten_from(1)?);
            q = parts.narrow(2, 0, dim)?.flatten_from(1)?;
        }
        let q = normed_parts(self.q_norm.as_ref(), q)?;
        let mut q = q.reshape(((), heads.n_head, heads.head_dim))?;
        if let Some(rotations) = rotations {
            q = rotations.q.forward(&q)?;
        }
        let keys = self.keys.as_ref();
        let keys = keys.map(|keys| keys.forward(n, adapters, rotations, heads));
        let attended = attend(Attended {
            q: &q,
            keys: keys.transpose()?,
            heads,
        })?;
        match gate {
            Some(gate) => attended * sigmoid(&gate)?,
            None => Ok(attended),
        }
    }
}

/// [`KeyLayers`] on a device.
struct CandleKeys {
    k: CandleProjection,
    v: Option<CandleProjection>,
    k_norm: Option<Norm>,
    v_norm: Option<Norm>,
}

impl CandleKeys {
    fn new(keys: &KeyLayers, device: &Device, dtype: DType) -> Result<Self> {
        let linear = |linear| CandleProjection::new(linear, device, dtype);
        Ok(Self {
            k: linear(&keys.k)?,
            v: keys.v.as_ref().map(linear).transpose()?,
            k_norm: copied(keys.k_norm.as_ref(), device)?,
            v_norm: copied(keys.v_norm.as_ref(), device)?,
        })
    }

    /// The keys and values of rows `n`, `[t, n_head_kv, head_dim]` each.
    fn forward(
        &self,
        n: &Tensor,
        adapters: &CandleAdapters,
        rotations: Option<&Rotations>,
        heads: Heads,
    ) -> Result<(Tensor, Tensor)> {
        let by_head = |x: &Tensor| x.reshape(((), heads.n_head_kv, heads.head_dim));
        let k = adapters.apply(&self.k, n)?;
        let v = match &self.v {
            Some(v) => adapters.apply(v, n)?,
            None => k.clone(),
        };
        let v = by_head(&normed_parts(self.v_norm.as_ref(), v)?)?;
        let k = by_head(&normed_parts(self.k_norm.as_ref(), k)?)?;
        match rotations {
            Some(rotations) => Ok((rotations.k.forward(&k)?, v)),
            None => Ok((k, v)),
        }
    }
}

/// [`ShortConv`] on a device.
pub struct CandleShortConv {
    input: CandleProjection,
    conv: Arc<CausalConv>,
}

impl CandleShortConv {
    fn new(mixer: &ShortConv, device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self {
            input: CandleProjection::new(&mixer.input, device, dtype)?,
            conv: Arc::clone(&mixer.conv),
        })
    }

    fn forward(&self, n: &Tensor, view: CandleView) -> Result<Tensor> {
        let bcx = view.adapters.apply(&self.input, n)?;
        let width = bcx.dim(1)? / 3;
        let [b, c, x] = [0, 1, 2].map(|which| bcx.narrow(1, which * width, width));
        let x = (b? * x?)?;
        let (mut recall, lineage) = (view.recall, Arc::clone(view.lineage));
        let earlier = |row| recall.as_ref()?.state(row);
        let (convolved, states) = self.conv.forward(&values(&x)?, &lineage, earlier);
        if let Some(recall) = &mut recall {
            recall.keep_states(&lineage, states);
        }
        let y = Tensor::from_vec(convolved, x.shape(), x.device())?;
        let conv = Arc::clone(&self.conv);
        let y = custom_grad([&x], &y, move |dy| {
            let dx = conv.backward(&values(dy)?, &lineage);
            Ok([Tensor::from_vec(dx, dy.shape(), dy.device())?])
        })?;
        c? * y
    }
}

/// [`DeltaNet`] on a device.
pub struct CandleDeltaNet {
    qkv: CandleProjection,
    z: CandleProjection,
    alpha: CandleProjection,
    beta: CandleProjection,
    core: Arc<DeltaCore>,
    norm: Norm,
}

impl CandleDeltaNet {
    fn new(mixer: &DeltaNet, device: &Device, dtype: DType) -> Result<Self> {
        let linear = |linear| CandleProjection::new(linear, device, dtype);
        Ok(Self {
            qkv: linear(&mixer.qkv)?,
            z: linear(&mixer.z)?,
            alpha: linear(&mixer.alpha)?,
            beta: linear(&mixer.beta)?,
            core: Arc::clone(&mixer.core),
            norm: Norm::new(&mixer.norm, device)?,
        })
    }

    fn forward(&self, n: &Tensor, view: CandleView) -> Result<Tensor> {
        let [qkv, z, alpha, beta] = [&self.qkv, &self.z, &self.alpha, &self.beta]
            .map(|linear| view.adapters.apply(linear, n));
        let z = z?;
        let inputs = Tensor::cat(&[qkv?, alpha?, beta?], 1)?;
        let o = self.rule(&inputs, view)?;
        let by_head = o.reshape(((), self.core.heads().dim_v))?;
        let normed = self.norm.forward(&by_head)?.reshape(z.shape())?;
        normed * z.silu()?
    }

    /// The core of the delta net, on the CPU. The rows of `inputs` are those of its three inputs side by side.
    fn rule(&self, inputs: &Tensor, view: CandleView) -> Result<Tensor> {
        let (mut recall, lineage) = (view.recall, Arc::clone(view.lineage));
        let (core, heads) = (Arc::clone(&self.core), self.core.heads());
        let given = HostInputs::of(inputs, &core)?;
        let earlier = recall.as_ref();
        let results = core.forward(given.rows(), &lineage, |row| earlier?.state(row));
        if let Some(recall) = &mut recall {
            recall.keep_states(&lineage, results.states);
        }
        let (t, device) = (inputs.dim(0)?, inputs.device().clone());
        let o = Tensor::from_vec(results.o, (t, heads.n_v * heads.dim_v), &device)?;
        let convolved = results.convolved;
        custom_grad([inputs], &o, move |d_o| {
            let d_o = values(d_o)?;
            let gradients = core.backward(given.rows(), &convolved, &lineage, &d_o);
            let parts = [gradients.qkv, gradients.alpha, gradients.beta].map(|part| {
                let width = part.len() / t;
                Tensor::from_vec(part, (t, width), &device)
            });
            let [qkv, alpha, beta] = parts;
            Ok([Tensor::cat(&[qkv?, alpha?, beta?], 1)?])
        })
    }
}

/// The inputs of a delta net's core on the CPU.
struct HostInputs([Vec<f32>; 3]);

impl HostInputs {
    fn of(inputs: &Tensor, core: &DeltaCore) -> Result<Self> {
        let (n_qkv, n_v) = (channels(core.heads()), core.heads().n_v);
        let part = |first, width| values(&inputs.narrow(1, first, width)?);
        Ok(Self([
            part(0, n_qkv)?,
            part(n_qkv, n_v)?,
            part(n_qkv + n_v, n_v)?,
        ]))
    }

    fn rows(&self) -> CoreInputs<'_> {
        let Self([qkv, alpha, beta]) = self;
        CoreInputs { qkv, alpha, beta }
    }
}

/// The values of a tensor, on the CPU.
fn values(x: &Tensor) -> Result<Vec<f32>> {
    x.detach().flatten_all()?.to_vec1()
}
