//! Low-rank adaptation (LoRA; Hu et al. 2021, arXiv 2106.09685): `y = W x + lora_scale · B A x`, where
//! `lora_scale = lora_alpha / rank`, `A` is `[rank, in]` and `B` is `[out, rank]`.

use candle_core::{DType, Device, Tensor, Var};
use clap::ValueEnum;
use cope_convert::{Adapter, LoraTensor, Matrix};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::ops::dropout::Dropout;
use super::ops::linear::LowRank;
use super::ops::map_f32;
use crate::{Error, Result};

/// A linear layer of a block that an adapter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TargetModule {
    /// Queries of attention.
    Q,
    /// Keys of attention.
    K,
    /// Values of attention.
    V,
    /// Output projection of attention.
    O,
    /// Gate of the feed-forward layers.
    Gate,
    /// Upward projection of the feed-forward layers.
    Up,
    /// Downward projection of the feed-forward layers.
    Down,
}

impl TargetModule {
    /// Number of target modules.
    pub const N: usize = 7;

    /// All target modules, in the order of the forward pass.
    pub const ALL: [Self; Self::N] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The part of the tensor's name in a GGUF file that is between `blk.N.` and `.weight`.
    fn gguf_name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// The tensor's name in a GGUF file.
    pub fn tensor_name(self, layer: usize) -> String {
        format!("blk.{layer}.{}.weight", self.gguf_name())
    }
}

/// The size and scale of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of every pair of matrices, at least 1.
    pub rank: usize,
    /// Numerator of `lora_scale`.
    pub lora_alpha: f32,
    /// The layers of each block that get a pair of matrices.
    pub target_modules: Vec<TargetModule>,
}

/// An adapter in training: a pair of variables for each adapted layer.
#[derive(Clone)]
pub struct Lora {
    lora_alpha: f32,
    rank: usize,
    /// The pairs of each block, in the order of [`TargetModule::ALL`].
    slots: Vec<[Option<MatrixPair>; TargetModule::N]>,
    /// Whether passes compute no gradients for it.
    frozen: bool,
    /// Dropout of the adapter's inputs: rate, seed, and number of the pass.
    dropout: Option<(f32, u64, u64)>,
}

/// `A`, `[rank, in]`, and `B`, `[out, rank]`.
#[derive(Clone)]
struct MatrixPair {
    a: Var,
    b: Var,
}

impl Lora {
    /// A fresh adapter. `A` is uniform in `±1/√in`, which is what PEFT's Kaiming initialisation amounts to; `B` is
    /// zero, so that the adapter changes nothing yet. `shape` gives `(out, in)` of a target in a block, `None` where the
    /// block has no such layer. Equal seeds give equal adapters.
    ///
    /// # Errors
    /// The rank is zero, or there are no target modules.
    pub fn new(
        config: &LoraConfig,
        n_layer: usize,
        shape: impl Fn(usize, TargetModule) -> Option<(usize, usize)>,
        seed: u64,
    ) -> Result<Self> {
        if config.rank == 0 || config.target_modules.is_empty() {
            return Err(Error::input(
                "an adapter needs a rank of at least 1 and a target module",
            ));
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut lora = Self::empty(config.rank, config.lora_alpha, n_layer);
        for (layer, slots) in lora.slots.iter_mut().enumerate() {
            for target in TargetModule::ALL {
                if config.target_modules.contains(&target)
                    && let Some((n_out, n_in)) = shape(layer, target)
                {
                    let bound = (n_in as f32).sqrt().recip();
                    let a = (0..config.rank * n_in)
                        .map(|_| random.random_range(-bound..bound))
                        .collect();
                    slots[target as usize] = Some(MatrixPair {
                        a: variable(a, config.rank, n_in)?,
                        b: variable(vec![0.0; n_out * config.rank], n_out, config.rank)?,
                    });
                }
            }
        }
        Ok(lora)
    }

    /// Variables with the values of an existing adapter, to train it further or to measure it. It must fit the base
    /// (`Adapter::check_fits`).
    ///
    /// # Errors
    /// The adapter changes a layer that is not a [`TargetModule`] of the `n_layer` blocks, or its pairs differ in rank.
    pub fn from_adapter(adapter: &Adapter, n_layer: usize) -> Result<Self> {
        let rank = adapter.rank();
        let mut lora = Self::empty(rank, adapter.lora_scale(rank) * rank as f32, n_layer);
        for tensor in &adapter.tensors {
            if tensor.rank() != rank {
                return Err(Error::input(format_args!(
                    "an adapter whose tensors differ in rank cannot be trained on: {} has rank {}, others {rank}",
                    tensor.name,
                    tensor.rank()
                )));
            }
            let places =
                (0..n_layer).flat_map(|layer| TargetModule::ALL.map(|target| (layer, target)));
            let place = places
                .into_iter()
                .find(|(layer, target)| target.tensor_name(*layer) == tensor.name);
            let (layer, target) = place.ok_or_else(|| {
                Error::input(format_args!(
                    "an adapter that changes {} cannot be trained on",
                    tensor.name
                ))
            })?;
            let matrix = |m: &Matrix| variable(m.data.clone(), m.rows, m.cols);
            lora.slots[layer][target as usize] = Some(MatrixPair {
                a: matrix(&tensor.a)?,
                b: matrix(&tensor.b)?,
            });
        }
        Ok(lora)
    }

    fn empty(rank: usize, lora_alpha: f32, n_layer: usize) -> Self {
        Self {
            lora_alpha,
            rank,
            slots: vec![Default::default(); n_layer],
            frozen: false,
            dropout: None,
        }
    }

    /// The same variables, for passes that compute no gradients and apply no dropout.
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self {
            frozen: true,
            dropout: None,
            ..self.clone()
        }
    }

    /// The same variables, frozen, with `scale` times the effect.
    #[must_use]
    pub fn scaled(&self, scale: f32) -> Self {
        Self {
            lora_alpha: self.lora_alpha * scale,
            ..self.frozen()
        }
    }

    /// The same variables for one training pass with dropout: each feature is zeroed with probability `rate` on its way
    /// into an adapter. Equal seeds and numbers zero the same features.
    #[must_use]
    pub fn dropping(&self, rate: f32, seed: u64, number: u64) -> Self {
        Self {
            dropout: (rate > 0.0).then_some((rate, seed, number)),
            ..self.clone()
        }
    }

    /// The trained matrices with their names, `<tensor>.lora_a` before `<tensor>.lora_b`.
    pub fn variables(&self) -> Vec<(String, Var)> {
        let pairs = self.pairs().flat_map(|(name, slot)| {
            [
                (format!("{name}.lora_a"), slot.a.clone()),
                (format!("{name}.lora_b"), slot.b.clone()),
            ]
        });
        pairs.collect()
    }

    /// The matrices of one block, concatenated into one tensor.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub(super) fn layer(&self, layer: usize) -> candle_core::Result<LayerLora> {
        let slots = &self.slots[layer];
        let mut matrices = Vec::new();
        let mut shapes = [None; TargetModule::N];
        for (slot, shape) in slots.iter().zip(&mut shapes) {
            if let Some(slot) = slot {
                for var in [&slot.a, &slot.b] {
                    let tensor = if self.frozen {
                        var.as_detached_tensor()
                    } else {
                        var.as_tensor().clone()
                    };
                    matrices.push(tensor.flatten_all()?);
                }
                *shape = Some((slot.b.dim(0)?, slot.a.dim(1)?));
            }
        }
        let flat = if matrices.is_empty() {
            Tensor::zeros(0, DType::F32, &Device::Cpu)?
        } else {
            Tensor::cat(&matrices, 0)?
        };
        let layout = LoraLayout {
            rank: self.rank,
            lora_scale: self.lora_alpha / self.rank as f32,
            shapes,
            dropout: self.dropout.map(|(rate, seed, number)| Dropout {
                rate,
                seed,
                stream: (number * self.slots.len() as u64 + layer as u64) * 7,
            }),
        };
        Ok(LayerLora { flat, layout })
    }

    /// The matrices of all blocks, concatenated into one tensor.
    ///
    /// # Errors
    /// A tensor operation failed.
    pub(super) fn stack(&self) -> candle_core::Result<StackLora> {
        let (mut flats, mut layouts) = (Vec::new(), Vec::new());
        for layer in 0..self.slots.len() {
            let LayerLora { flat, layout } = self.layer(layer)?;
            if flat.elem_count() > 0 {
                flats.push(flat);
            }
            layouts.push(layout);
        }
        Ok(StackLora {
            flat: Tensor::cat(&flats, 0)?,
            layouts,
        })
    }

    /// Whether passes compute gradients for it.
    pub(super) fn is_trained(&self) -> bool {
        !self.frozen
    }

    /// The values of the adapter's matrices, sorted by tensor name.
    ///
    /// # Errors
    /// A tensor could not be read.
    pub fn to_tensors(&self) -> Result<Vec<LoraTensor>> {
        let mut tensors = Vec::new();
        for (name, slot) in self.pairs() {
            tensors.push(LoraTensor {
                name,
                a: matrix(&slot.a)?,
                b: matrix(&slot.b)?,
            });
        }
        tensors.sort_by(|x, y| x.name.cmp(&y.name));
        Ok(tensors)
    }

    /// Numerator of `lora_scale`.
    pub fn lora_alpha(&self) -> f32 {
        self.lora_alpha
    }

    /// The size and scale of the adapter. A target module counts if it is adapted in some block.
    pub fn config(&self) -> LoraConfig {
        let is_adapted = |target: &TargetModule| {
            let mut blocks = self.slots.iter();
            blocks.any(|slots| slots[*target as usize].is_some())
        };
        LoraConfig {
            rank: self.rank,
            lora_alpha: self.lora_alpha,
            target_modules: TargetModule::ALL.into_iter().filter(is_adapted).collect(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (String, &MatrixPair)> {
        self.slots.iter().enumerate().flat_map(|(layer, slots)| {
            let targets = TargetModule::ALL.into_iter().zip(slots);
            targets
                .filter_map(move |(target, slot)| Some((target.tensor_name(layer), slot.as_ref()?)))
        })
    }
}

/// A block's adapters, in the order of [`TargetModule::ALL`].
pub(super) type BlockAdapters<'a> = [Option<LowRank<'a>>; TargetModule::N];

/// `(dA, dB)` of each adapted layer of a block, in the order of [`TargetModule::ALL`].
pub(super) type LoraGradients = [Option<(Vec<f32>, Vec<f32>)>; TargetModule::N];

/// The matrices of one block's adapters, in one tensor.
pub(super) struct LayerLora {
    /// `A`, `[rank, in]`, and `B`, `[out, rank]`, of each adapted layer in the order of [`TargetModule::ALL`].
    pub flat: Tensor,
    pub layout: LoraLayout,
}

/// The matrices of all blocks' adapters, in one tensor.
pub(super) struct StackLora {
    /// [`LayerLora::flat`] of all blocks, one after the other.
    pub flat: Tensor,
    /// The layout of each block.
    pub layouts: Vec<LoraLayout>,
}

/// Where each matrix is in [`LayerLora::flat`].
pub(super) struct LoraLayout {
    pub rank: usize,
    pub lora_scale: f32,
    /// `(out, in)` of the adapted layers.
    shapes: [Option<(usize, usize)>; TargetModule::N],
    /// Dropout of the first target module; each of the others has the next stream of random numbers.
    dropout: Option<Dropout>,
}

/// The place of one layer's matrices.
pub(super) struct LoraPlace {
    /// Index of the first value of `A`; `B` follows `A`.
    pub start: usize,
    pub n_out: usize,
    pub n_in: usize,
    pub dropout: Option<Dropout>,
}

impl LoraLayout {
    /// The places of the adapted layers, in the order of [`TargetModule::ALL`].
    pub fn places(&self) -> [Option<LoraPlace>; TargetModule::N] {
        let (mut start, mut streams) = (0, 0..);
        self.shapes.map(|shape| {
            let stream = streams.next().unwrap_or_default();
            let (n_out, n_in) = shape?;
            let place = LoraPlace {
                start,
                n_out,
                n_in,
                dropout: self.dropout.map(|dropout| Dropout {
                    stream: dropout.stream + stream,
                    ..dropout
                }),
            };
            start += self.rank * (n_in + n_out);
            Some(place)
        })
    }

    /// Number of values of all matrices.
    pub fn len(&self) -> usize {
        let values = |&(n_out, n_in): &(usize, usize)| self.rank * (n_out + n_in);
        self.shapes.iter().flatten().map(values).sum()
    }

    /// Splits `flat` into the matrices of the block's adapters.
    pub fn split<'a>(&self, flat: &'a [f32]) -> BlockAdapters<'a> {
        self.places().map(|place| {
            let place = place?;
            let (a, b) = flat[place.start..].split_at(self.rank * place.n_in);
            Some(LowRank {
                a,
                b: &b[..self.rank * place.n_out],
                lora_scale: self.lora_scale,
                dropout: place.dropout,
            })
        })
    }
}

/// The gradients of a block's adapters in one vector, in the order of [`LayerLora::flat`].
pub(super) fn flat_gradients(gradients: LoraGradients) -> Vec<f32> {
    let pairs = gradients.into_iter().flatten();
    pairs.flat_map(|(a, b)| a.into_iter().chain(b)).collect()
}

fn variable(data: Vec<f32>, rows: usize, cols: usize) -> Result<Var> {
    Ok(Var::from_tensor(&Tensor::from_vec(
        data,
        (rows, cols),
        &Device::Cpu,
    )?)?)
}

fn matrix(var: &Var) -> Result<Matrix> {
    let (rows, cols) = var.dims2()?;
    Ok(Matrix {
        rows,
        cols,
        data: map_f32(var, <[f32]>::to_vec)?,
    })
}
