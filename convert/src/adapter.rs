//! LoRA adapters: for a weight `W` of shape `(out, in)`, matrices `A` `(r, in)` and `B` `(out, r)`, applied as
//!
//! ```text
//! y = W x + scale · lora_scale · B (A x),    lora_scale = lora_alpha / r
//! ```
//!
//! with `scale` a run-time factor of llama.cpp.

pub(crate) mod check;
mod delta;
mod pair;
mod read;
mod stack;
mod write;

use std::borrow::Cow;
use std::path::Path;

pub use delta::inner_product;
pub(crate) use pair::StoredMatrix;
pub use pair::{Half, LoraPair, StoredPair};
pub use stack::StackedPair;

use crate::error::Result;
use crate::gguf::{GgmlType, Gguf};

/// The suffix of `A`'s tensor, after the base tensor's name.
const LORA_A: &str = ".lora_a";
/// The suffix of `B`'s tensor, after the base tensor's name.
const LORA_B: &str = ".lora_b";

const GENERAL_TYPE: &str = "general.type";
const GENERAL_ARCHITECTURE: &str = "general.architecture";
pub(crate) const GENERAL_NAME: &str = "general.name";
const ADAPTER_TYPE: &str = "adapter.type";
pub(crate) const LORA_ALPHA: &str = "adapter.lora.alpha";
pub(crate) const BASE_SHA256: &str = "cope.base_sha256";
pub(crate) const TASK_SHA256: &str = "cope.task_sha256";
pub(crate) const CONTRAST: &str = "cope.contrast";
pub(crate) const PLAUSIBILITY: &str = "cope.plausibility";

/// A LoRA adapter, and what it was made for. Its pairs `P` are in memory, or wherever a [`LoraPair`] is.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter<P = LoraTensor> {
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
    /// The pairs, sorted by name.
    pub tensors: Vec<P>,
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
    /// As [`open_gguf`](Adapter::open_gguf), and a weight is not finite.
    pub fn read_gguf(path: &Path) -> Result<Self> {
        Adapter::open_gguf(path)?.load()
    }
}

impl Adapter<StoredPair> {
    /// Reads an adapter in GGUF format, of this program or another, but for its weights, which stay on disk.
    ///
    /// # Errors
    ///
    /// The file is no GGUF file or a damaged one, is no adapter, or has one of the flaws of
    /// [`AdapterFlaw`](crate::AdapterFlaw).
    pub fn open_gguf(path: &Path) -> Result<Self> {
        read::open(path)
    }
}

impl<P: LoraPair> Adapter<P> {
    /// One adapter that does what several do together, each times a factor of its own. What it is called, and the
    /// contrast, are the last one's.
    ///
    /// # Errors
    ///
    /// There are none, or they are of different bases.
    pub fn stack<'a>(adapters: &[(&'a Self, f32)]) -> Result<Adapter<StackedPair<'a, P>>> {
        stack::stack(adapters)
    }

    /// The adapter with all its weights in memory.
    ///
    /// # Errors
    ///
    /// As [`LoraPair::a`].
    pub fn load(&self) -> Result<Adapter> {
        let tensors = self.tensors.iter().map(|pair| {
            let matrix = |rows, cols, data: Cow<'_, [f32]>| Matrix {
                rows,
                cols,
                data: data.into_owned(),
            };
            Ok(LoraTensor {
                name: pair.name().to_owned(),
                a: matrix(pair.rank(), pair.n_in(), pair.a()?),
                b: matrix(pair.n_out(), pair.rank(), pair.b()?),
            })
        });
        let tensors = tensors.collect::<Result<_>>()?;
        Ok(self.with(tensors))
    }

    /// Writes the adapter in GGUF format for llama.cpp, piece by piece, with weights of `ggml_type` (f32, f16, bf16, or
    /// one of 32 weights a block, with F16 for rows that are no whole blocks), or of the type that each has. The same
    /// adapter gives the same bytes. The file takes its place at once or not at all, and on Unix its owner alone may read
    /// it.
    ///
    /// # Errors
    ///
    /// The adapter is one that [`open_gguf`](Adapter::open_gguf) would refuse, or whose weights cannot be loaded, or the
    /// file cannot be written.
    pub fn write_gguf_as(&self, path: &Path, ggml_type: Option<GgmlType>) -> Result<()> {
        write::write(self, path, ggml_type)
    }

    /// [`write_gguf_as`](Self::write_gguf_as), each weight in the type that it has.
    ///
    /// # Errors
    ///
    /// As [`write_gguf_as`](Self::write_gguf_as).
    pub fn write_gguf(&self, path: &Path) -> Result<()> {
        self.write_gguf_as(path, None)
    }

    /// The highest rank of a pair; 0 for an adapter without any.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.tensors.iter().map(LoraPair::rank).max().unwrap_or(0)
    }

    /// The factor of `B A x` as llama.cpp computes it for a pair of `rank`: `lora_alpha / rank`, or 1 where `lora_alpha`
    /// is 0.
    #[must_use]
    pub fn lora_scale(&self, rank: usize) -> f32 {
        if self.lora_alpha == 0.0 {
            1.0
        } else {
            self.lora_alpha / rank as f32
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

    /// The same with other pairs.
    pub(crate) fn with<Q>(&self, tensors: Vec<Q>) -> Adapter<Q> {
        Adapter {
            architecture: self.architecture.clone(),
            lora_alpha: self.lora_alpha,
            base_sha256: self.base_sha256.clone(),
            task_sha256: self.task_sha256.clone(),
            contrast: self.contrast,
            plausibility: self.plausibility,
            name: self.name.clone(),
            tensors,
        }
    }
}

impl LoraTensor {
    /// The number of rows of `A` and of columns of `B`.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.a.rows
    }
}
