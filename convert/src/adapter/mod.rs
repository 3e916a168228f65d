//! LoRA adapters: for a weight `W` of shape `(out, in)`, matrices `A` `(r, in)` and `B` `(out, r)`, applied as
//!
//! ```text
//! y = W x + scale · lora_scale · B (A x),    lora_scale = lora_alpha / r
//! ```
//!
//! with `scale` a run-time factor of llama.cpp.

mod check;
mod read;
mod stack;
mod write;

use std::path::Path;

use crate::error::Result;
use crate::gguf::Gguf;

/// The suffix of `A`'s tensor, after the base tensor's name.
const LORA_A: &str = ".lora_a";
/// The suffix of `B`'s tensor, after the base tensor's name.
const LORA_B: &str = ".lora_b";

const GENERAL_TYPE: &str = "general.type";
const GENERAL_ARCHITECTURE: &str = "general.architecture";
const GENERAL_NAME: &str = "general.name";
const ADAPTER_TYPE: &str = "adapter.type";
const LORA_ALPHA: &str = "adapter.lora.alpha";
const BASE_SHA256: &str = "cope.base_sha256";
const TASK_SHA256: &str = "cope.task_sha256";
const CONTRAST: &str = "cope.contrast";
const PLAUSIBILITY: &str = "cope.plausibility";

/// A LoRA adapter, and what it was made for.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// The base's `general.architecture`, such as `llama`.
    pub architecture: String,
    /// The LoRA numerator, for all tensors; 0 stands for a [`lora_scale`](Self::lora_scale) of 1.
    pub lora_alpha: f32,
    /// The SHA-256 of the base's file, 64 lower-case hexadecimal digits; adapters of other programs have none.
    pub base_sha256: Option<String>,
    /// The SHA-256 of the task adapter that this one was trained on top of, and is of use with alone.
    pub task_sha256: Option<String>,
    /// The contrast (α of CoPe) that suits the adapter.
    pub contrast: Option<f32>,
    /// The plausibility threshold (τ of CoPe) that suits the adapter.
    pub plausibility: Option<f32>,
    /// What to call the adapter.
    pub name: Option<String>,
    /// The pairs, sorted by name, all of one rank.
    pub tensors: Vec<LoraTensor>,
}

/// The pair of matrices that adapts one tensor of the base.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraTensor {
    /// The base tensor, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// `A`, `(r, in)`.
    pub a: Matrix,
    /// `B`, `(out, r)`.
    pub b: Matrix,
}

/// A matrix, `(rows, cols)`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub cols: usize,
    /// The values, `[rows × cols]`.
    pub data: Vec<f32>,
}

impl Adapter {
    /// Reads an adapter in GGUF format, of this program or another; f16 and bf16 weights become f32.
    ///
    /// # Errors
    ///
    /// The file is no GGUF file or a damaged one, is no adapter, or has one of the flaws of
    /// [`AdapterFlaw`](crate::AdapterFlaw).
    pub fn read_gguf(path: &Path) -> Result<Self> {
        read::read(path)
    }

    /// Writes the adapter in GGUF format for llama.cpp, with f32 weights. The same adapter gives the same bytes. The file
    /// takes its place at once or not at all, and on Unix its owner alone may read it.
    ///
    /// # Errors
    ///
    /// The adapter is one that [`read_gguf`](Self::read_gguf) would refuse, or the file cannot be written.
    pub fn write_gguf(&self, path: &Path) -> Result<()> {
        write::write(self, path)
    }

    /// One adapter that does what several do together, each times a factor of its own. What it is called, and the
    /// contrast, are the last one's.
    ///
    /// # Errors
    ///
    /// There are none, or they are of different bases.
    pub fn stack(adapters: &[(&Self, f32)]) -> Result<Self> {
        stack::stack(adapters)
    }

    /// The rank of all pairs; 0 for an adapter without any.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.tensors.first().map_or(0, LoraTensor::rank)
    }

    /// The factor of `B A x` as llama.cpp computes it: `lora_alpha / rank`, or 1 where `lora_alpha` is 0.
    #[must_use]
    pub fn lora_scale(&self) -> f32 {
        if self.lora_alpha == 0.0 {
            1.0
        } else {
            self.lora_alpha / self.rank() as f32
        }
    }

    /// Makes sure that the adapter belongs to a base: the architecture, the base's hash if the adapter records one, and
    /// every adapted tensor's dimensions. `base_sha256` is the [`sha256`](crate::sha256) of the base's file.
    ///
    /// # Errors
    ///
    /// A [`Misfit`](crate::Misfit), or a base that does not name its architecture.
    pub fn check_fits(&self, base: &Gguf, base_sha256: &str) -> Result<()> {
        check::check_fits(self, base, base_sha256)
    }
}

impl LoraTensor {
    /// The number of rows of `A` and of columns of `B`.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.a.rows
    }
}
