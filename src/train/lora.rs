//! Low-rank adaptation (LoRA; Hu et al. 2021, arXiv 2106.09685): `y = W x + lora_scale · B A x`, where
//! `lora_scale = lora_alpha / rank`, `A` is `[rank, in]` and `B` is `[out, rank]`.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use cope_convert::{Adapter, LoraTensor, Matrix};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::ops::dropout::Dropout;
use super::ops::linear::LowRank;
use super::ops::map_f32;
use super::ops::matrix::Into;
use super::shape::Shape;
use super::target::LinearTensor;
pub use super::target::TargetModule;
use crate::{Error, Result};

/// Streams of random numbers that a block has of each seed.
const STREAMS: u64 = 7;

/// The size and scale of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of every pair of matrices, at least 1.
    pub rank: usize,
    /// Numerator of `lora_scale`.
    pub lora_alpha: f32,
    /// The layers of each block that get a pair of matrices, where the block has them.
    #[serde(with = "recorded")]
    pub target_modules: Vec<TargetModule>,
}

/// The target modules in records. All of them are written as those that a llama has, as they were when no model had
/// others, so that the records of earlier versions stay valid.
mod recorded {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::TargetModule;

    const ALL: &[TargetModule] = TargetModule::ALL.split_at(7).0;

    pub fn serialize<S: Serializer>(
        modules: &[TargetModule],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let are_all = TargetModule::ALL.iter().all(|it| modules.contains(it));
        if are_all { ALL } else { modules }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<TargetModule>, D::Error> {
        let modules = Vec::deserialize(deserializer)?;
        Ok(if modules == ALL {
            TargetModule::ALL.to_vec()
        } else {
            modules
        })
    }
}

/// An adapter in training: a pair of variables for each adapted tensor.
#[derive(Clone)]
pub struct Lora {
    lora_alpha: f32,
    rank: usize,
    /// The pairs of each block, in the order of its tensors.
    blocks: Vec<Vec<MatrixPair>>,
    /// Whether passes compute no gradients for it.
    frozen: bool,
    /// Dropout of the adapter's inputs: rate, seed, and number of the pass.
    dropout: Option<(f32, u64, u64)>,
}

/// The pair of a tensor: `A`, `[rank, in]`, and `B`, `[out, rank]`, whose rows are those of the tensor's layers.
#[derive(Clone)]
struct MatrixPair {
    tensor: LinearTensor,
    /// Number of output features of each layer of the tensor.
    rows: Vec<usize>,
    a: Var,
    b: Var,
}

impl Lora {
    /// A fresh adapter for a model of this shape. `A` is uniform in `±1/√in`, which is what PEFT's Kaiming initialisation
    /// amounts to; `B` is zero, so that the adapter changes nothing yet. Equal seeds give equal adapters.
    ///
    /// # Errors
    /// The rank is zero, there are no target modules or none that the model has, or a tensor of the file holds some of them
    /// together with another layer.
    pub fn new(config: &LoraConfig, shape: &Shape, seed: u64) -> Result<Self> {
        if config.rank == 0 || config.target_modules.is_empty() {
            return Err(Error::input(
                "an adapter needs a rank of at least 1 and a target module",
            ));
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut lora = Self::empty(config.rank, config.lora_alpha, shape.n_layer);
        for (layer, block) in lora.blocks.iter_mut().enumerate() {
            for &tensor in &shape.linear_tensors[layer] {
                let is_target = |layer: &TargetModule| config.target_modules.contains(layer);
                match tensor.layers.iter().filter(|it| is_target(it)).count() {
                    0 => continue,
                    n if n == tensor.layers.len() => {}
                    _ => {
                        return Err(Error::input(format_args!(
                            "the model holds {} in one tensor, {}; an adapter changes all of them or none",
                            tensor.layer_names(),
                            tensor.name(layer)
                        )));
                    }
                }
                let (rows, n_in) = shape.tensor(layer, tensor);
                let n_out = rows.iter().sum();
                let bound = (n_in as f32).sqrt().recip();
                let a = (0..config.rank * n_in)
                    .map(|_| random.random_range(-bound..bound))
                    .collect();
                block.push(MatrixPair {
                    tensor,
                    rows,
                    a: variable(a, config.rank, n_in)?,
                    b: variable(vec![0.0; n_out * config.rank], n_out, config.rank)?,
                });
            }
        }
        if lora.pairs().next().is_none() {
            return Err(Error::input(
                "the model has none of the target modules that were asked for",
            ));
        }
        Ok(lora)
    }

    /// Variables with the values of an existing adapter, to train it further or to measure it. It must fit the base
    /// (`Adapter::check_fits`), whose shape this is.
    ///
    /// # Errors
    /// The adapter changes a tensor that holds no [`TargetModule`] of a block, or its pairs differ in rank.
    pub fn from_adapter(adapter: &Adapter, shape: &Shape) -> Result<Self> {
        let rank = adapter.rank();
        let mut lora = Self::empty(rank, adapter.lora_scale(rank) * rank as f32, shape.n_layer);
        let mut tensors: BTreeMap<_, _> = (adapter.tensors.iter())
            .map(|pair| (pair.name.as_str(), pair))
            .collect();
        for (layer, block) in lora.blocks.iter_mut().enumerate() {
            for &tensor in &shape.linear_tensors[layer] {
                let Some(pair) = tensors.remove(tensor.name(layer).as_str()) else {
                    continue;
                };
                if pair.rank() != rank {
                    return Err(Error::input(format_args!(
                        "an adapter whose tensors differ in rank cannot be trained on: {} has rank {}, others {rank}",
                        pair.name,
                        pair.rank()
                    )));
                }
                let matrix = |m: &Matrix| variable(m.data.clone(), m.rows, m.cols);
                block.push(MatrixPair {
                    tensor,
                    rows: shape.tensor(layer, tensor).0,
                    a: matrix(&pair.a)?,
                    b: matrix(&pair.b)?,
                });
            }
        }
        match tensors.first_key_value() {
            Some((name, _)) => Err(Error::input(format_args!(
                "an adapter that changes {name} cannot be trained on"
            ))),
            None => Ok(lora),
        }
    }

    fn empty(rank: usize, lora_alpha: f32, n_layer: usize) -> Self {
        Self {
            lora_alpha,
            rank,
            blocks: vec![Vec::new(); n_layer],
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
        let mut matrices = Vec::new();
        let mut pairs = Vec::new();
        for pair in &self.blocks[layer] {
            for var in [&pair.a, &pair.b] {
                let tensor = if self.frozen {
                    var.as_detached_tensor()
                } else {
                    var.as_tensor().clone()
                };
                matrices.push(tensor.flatten_all()?);
            }
            pairs.push(PairLayout {
                layers: pair.tensor.layers,
                rows: pair.rows.clone(),
                n_in: pair.a.dim(1)?,
            });
        }
        let flat = if matrices.is_empty() {
            Tensor::zeros(0, DType::F32, &Device::Cpu)?
        } else {
            Tensor::cat(&matrices, 0)?
        };
        let layout = LoraLayout {
            rank: self.rank,
            lora_scale: self.lora_alpha / self.rank as f32,
            pairs,
            dropout: self.dropout.map(|(rate, seed, number)| Dropout {
                rate,
                seed,
                stream: (number * self.blocks.len() as u64 + layer as u64) * STREAMS,
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
        for layer in 0..self.blocks.len() {
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
            let mut pairs = self.blocks.iter().flatten();
            pairs.any(|pair| pair.tensor.layers.contains(target))
        };
        LoraConfig {
            rank: self.rank,
            lora_alpha: self.lora_alpha,
            target_modules: TargetModule::ALL.into_iter().filter(is_adapted).collect(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (String, &MatrixPair)> {
        let blocks = self.blocks.iter().enumerate();
        blocks.flat_map(|(layer, pairs)| {
            let named = move |pair: &'_ MatrixPair| pair.tensor.name(layer);
            pairs.iter().map(move |pair| (named(pair), pair))
        })
    }
}

/// A block's adapters, in the order of [`TargetModule::ALL`].
pub(super) type BlockAdapters<'a> = [Option<LowRank<'a>>; TargetModule::N];

/// `(dA, dB)` of each adapted layer of a block, in the order of [`TargetModule::ALL`].
pub(super) type LoraGradients = [Option<(Vec<f32>, Vec<f32>)>; TargetModule::N];

/// The matrices of one block's adapters, in one tensor.
pub(super) struct LayerLora {
    /// `A`, `[rank, in]`, and `B`, `[out, rank]`, of each adapted tensor, one after the other.
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
    /// The pairs of the adapted tensors, in the order of the tensors.
    pairs: Vec<PairLayout>,
    /// Dropout of the first target module. Each of the others has the next stream of random numbers, and after
    /// [`STREAMS`] of them the first one of the next seed.
    dropout: Option<Dropout>,
}

/// The sizes of a pair of matrices.
struct PairLayout {
    /// The layers whose rows `B` has, one after the other.
    layers: &'static [TargetModule],
    /// Number of output features of each of these layers.
    rows: Vec<usize>,
    n_in: usize,
}

/// The place of one layer's matrices. Layers of one tensor have the same `A`.
pub(super) struct LoraPlace {
    /// Index of the first value of `A`.
    pub a: usize,
    /// Index of the first value of `B`.
    pub b: usize,
    pub n_out: usize,
    pub n_in: usize,
    pub dropout: Option<Dropout>,
}

impl LoraLayout {
    /// The places of the adapted layers, in the order of [`TargetModule::ALL`].
    pub fn places(&self) -> [Option<LoraPlace>; TargetModule::N] {
        let (mut places, mut start) = ([const { None }; TargetModule::N], 0);
        for PairLayout { layers, rows, n_in } in &self.pairs {
            let mut b = start + self.rank * n_in;
            for (&layer, &n_out) in layers.iter().zip(rows) {
                places[layer as usize] = Some(LoraPlace {
                    a: start,
                    b,
                    n_out,
                    n_in: *n_in,
                    // The layers of one tensor see the same input.
                    dropout: self.dropout.map(|dropout| Dropout {
                        seed: dropout.seed.wrapping_add(layers[0] as u64 / STREAMS),
                        stream: dropout.stream + layers[0] as u64 % STREAMS,
                        ..dropout
                    }),
                });
                b += self.rank * n_out;
            }
            start = b;
        }
        places
    }

    /// Number of values of all matrices.
    pub fn len(&self) -> usize {
        let width = |pair: &PairLayout| pair.rows.iter().sum::<usize>() + pair.n_in;
        self.rank * self.pairs.iter().map(width).sum::<usize>()
    }

    /// Splits `flat` into the matrices of the block's adapters.
    pub fn split<'a>(&self, flat: &'a [f32]) -> BlockAdapters<'a> {
        self.places().map(|place| {
            let place = place?;
            Some(LowRank {
                a: &flat[place.a..][..self.rank * place.n_in],
                b: &flat[place.b..][..self.rank * place.n_out],
                lora_scale: self.lora_scale,
                dropout: place.dropout,
            })
        })
    }

    /// The gradients of a block's adapters in one vector, in the order of [`LayerLora::flat`].
    pub fn flat_gradients(&self, mut gradients: LoraGradients) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.len());
        for PairLayout { layers, .. } in &self.pairs {
            let parts = layers.iter().map(|&layer| gradients[layer as usize].take());
            let (d_as, d_bs): (Vec<_>, Vec<_>) = parts.flatten().unzip();
            let sum = |mut sum: Vec<f32>, d_a: Vec<f32>| {
                Into::Add.store(&mut sum, d_a.into_iter());
                sum
            };
            flat.extend(d_as.into_iter().reduce(sum).unwrap_or_default());
            flat.extend(d_bs.into_iter().flatten());
        }
        flat
    }
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
