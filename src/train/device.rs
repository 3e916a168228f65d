//! The device that training computes on: the CPU, with operations of our own, or a GPU, with candle's.

use std::fmt;

use candle_core::{DType, Device};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::ops::linear::WeightType;
use crate::Result;
use crate::error::{CpuWork, Unspecified};

/// A kind of device. The features `cuda` and `metal` of the build say which GPUs it can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TrainDevice {
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
    /// The Apple GPU.
    Metal,
}

impl TrainDevice {
    /// The type of weights that is fastest on this device.
    pub fn fastest_weights(self) -> WeightType {
        match self {
            Self::Cpu => WeightType::fastest(),
            Self::Cuda | Self::Metal => WeightType::Bf16,
        }
    }

    /// candle's handle of the GPU; `None` for the CPU.
    ///
    /// # Errors
    /// The GPU is not there, or this build cannot use it.
    pub(super) fn gpu(self) -> Result<Option<Device>> {
        let device = match self {
            Self::Cpu => return Ok(None),
            Self::Cuda => Device::new_cuda(0),
            Self::Metal => Device::new_metal(0),
        };
        let device = device.map_err(|error| Unspecified::Device {
            device: self.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(device))
    }

    /// candle's type for weights on a GPU.
    ///
    /// # Errors
    /// Weights should stay quantised, or activations be recomputed, which training does only on the CPU.
    pub(super) fn dtype(self, weight_type: WeightType, recompute: bool) -> Result<DType> {
        let cpu_only = |work| {
            let device = self.to_string();
            Unspecified::CpuOnly { work, device }.into()
        };
        match weight_type {
            _ if recompute => Err(cpu_only(CpuWork::Recompute)),
            WeightType::F32 => Ok(DType::F32),
            WeightType::Bf16 => Ok(DType::BF16),
            WeightType::Quantized => Err(cpu_only(CpuWork::QuantizedWeights)),
        }
    }
}

impl fmt::Display for TrainDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        })
    }
}
