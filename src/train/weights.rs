//! The frozen weights of a GGUF file, whatever type the file holds them in.

use std::borrow::Cow;
use std::collections::BTreeSet;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use cope_convert::gguf::{GgmlType, Gguf, TensorInfo};

use super::ops::linear::{FrozenWeight, WeightType};
use super::ops::map_f32;
use crate::{Error, Result};

/// Reads the tensors of one file, and remembers which have been read.
pub struct Weights<'a> {
    gguf: &'a Gguf,
    weight_type: WeightType,
    read: BTreeSet<&'a str>,
}

impl<'a> Weights<'a> {
    /// Of a file whose header has been checked; its matrices are to be held in `weight_type`.
    pub fn new(gguf: &'a Gguf, weight_type: WeightType) -> Self {
        Self {
            gguf,
            weight_type,
            read: BTreeSet::new(),
        }
    }

    /// A vector of `len` values.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.values(name, &[len as u64])
    }

    /// [`Weights::vector`] of a tensor that a file may do without.
    ///
    /// # Errors
    /// As there, but for a missing tensor.
    pub fn vector_if_there(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        if self.contains(name) {
            self.vector(name, len).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A linear layer: the matrix `[n_out, n_in]` called `name`, and its bias if there is one.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn linear(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<FrozenWeight> {
        let weight = FrozenWeight::new(
            &self.values(name, &[n_in as u64, n_out as u64])?,
            n_out,
            n_in,
            self.weight_type,
        );
        let bias = name.replace(".weight", ".bias");
        Ok(match self.vector_if_there(&bias, n_out)? {
            Some(bias) => weight.with_bias(bias),
            None => weight,
        })
    }

    /// Whether the file has this tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// Checks that every tensor has been read: one that was not would silently change what the model computes.
    ///
    /// # Errors
    /// Names the first tensor that this architecture has no place for.
    pub fn finish(self) -> Result<()> {
        match self
            .gguf
            .tensors
            .iter()
            .find(|tensor| !self.read.contains(tensor.name.as_str()))
        {
            Some(tensor) => Err(self.flaw(
                &tensor.name,
                "has no place in a model of this architecture as trained here",
            )),
            None => Ok(()),
        }
    }

    /// `shape` in ggml's order, fastest first.
    fn values(&mut self, name: &str, shape: &[u64]) -> Result<Vec<f32>> {
        let tensor = self
            .gguf
            .tensor(name)
            .ok_or_else(|| self.flaw(name, "is missing"))?;
        if tensor.shape != shape {
            let reason = format!("has the shape {:?}, expected {shape:?}", tensor.shape);
            return Err(self.flaw(name, &reason));
        }
        self.read.insert(&tensor.name);
        let values = self.dequantize(tensor)?;
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(self.flaw(name, "holds values that are not finite"))
        }
    }

    fn dequantize(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let unsupported = || {
            self.flaw(
                &tensor.name,
                &format!(
                    "is of type {}, which cannot be trained on",
                    tensor.ggml_type
                ),
            )
        };
        let dtype = candle_type(tensor.ggml_type).ok_or_else(unsupported)?;
        let storage =
            QStorage::from_data(Cow::Owned(self.gguf.read(tensor)?), &Device::Cpu, dtype)?;
        let shape: Vec<usize> = tensor.shape.iter().rev().map(|&n| n as usize).collect();
        Ok(map_f32(
            &QTensor::new(storage, shape)?.dequantize(&Device::Cpu)?,
            <[f32]>::to_vec,
        )?)
    }

    fn flaw(&self, name: &str, reason: &str) -> Error {
        Error::input(format_args!(
            "{}: the tensor {name} {reason}",
            self.gguf.path.display()
        ))
    }
}

fn candle_type(ggml_type: GgmlType) -> Option<GgmlDType> {
    Some(match ggml_type {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::BF16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2_K => GgmlDType::Q2K,
        GgmlType::Q3_K => GgmlDType::Q3K,
        GgmlType::Q4_K => GgmlDType::Q4K,
        GgmlType::Q5_K => GgmlDType::Q5K,
        GgmlType::Q6_K => GgmlDType::Q6K,
        _ => return None,
    })
}
