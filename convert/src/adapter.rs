//! LoRA adapters (arXiv 2106.09685). For a weight `W` of shape `(out, in)` an adapter has matrices `A` `(r, in)` and
//! `B` `(out, r)`, which change the layer to
//!
//! ```text
//! y = W x + scale · lora_scale · B (A x),    lora_scale = lora_alpha / r
//! ```
//!
//! where `scale` is a factor that llama.cpp takes at run time.

pub(crate) mod check;
mod delta;
pub(crate) mod fuse;
mod read;
mod stack;
mod tensor_pair;
pub(crate) mod values;
mod write;

use std::borrow::Cow;
use std::path::Path;

pub use delta::inner_product;
pub use stack::StackedPair;
pub use tensor_pair::{Half, LoraPair, StoredPair};
pub(crate) use tensor_pair::{StoredMatrix, StoredPart};

use crate::error::Result;
use crate::gguf::{GgmlType, Gguf};
use crate::rope_factors::RopeFactors;

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
pub(crate) const ROPE_FACTORS: &str = "cope.rope_factors";

/// A LoRA adapter, and the base and settings it was made for. Its pairs of matrices `P` are in memory ([`LoraTensor`]),
/// in a file ([`StoredPair`]), or computed ([`StackedPair`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter<P = LoraTensor> {
    /// The base's `general.architecture`, such as `llama`.
    pub architecture: String,
    /// `lora_alpha` of the formula, for all tensors; 0 stands for a [`lora_scale`](Self::lora_scale) of 1.
    pub lora_alpha: f32,
    /// The SHA-256 of the base's file, 64 lower-case hexadecimal digits. Adapters of other programs have none.
    pub base_sha256: Option<String>,
    /// The SHA-256 of the task adapter that this one was trained on top of, and without which it is of no use.
    pub task_sha256: Option<String>,
    /// The contrast (α of CoPe) that suits the adapter.
    pub contrast: Option<f32>,
    /// The plausibility threshold (τ of CoPe) that suits the adapter.
    pub plausibility: Option<f32>,
    /// The factors of the rotary frequencies that the adapter was trained with, of a base that has two sets.
    pub rope_factors: Option<RopeFactors>,
    /// The adapter's name, for people.
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
    /// Reads an adapter in GGUF format that this program or another has written. All weights become f32.
    ///
    /// # Errors
    ///
    /// The errors of [`open_gguf`](Adapter::open_gguf), or a weight is not finite.
    pub fn read_gguf(path: &Path) -> Result<Self> {
        Adapter::open_gguf(path)?.load()
    }
}

impl Adapter<StoredPair> {
    /// Opens an adapter in GGUF format that this program or another has written. Its weights stay on disk.
    ///
    /// # Errors
    ///
    /// The file is not a GGUF file, is damaged, is not an adapter, or has one of the flaws of
    /// [`AdapterFlaw`](crate::AdapterFlaw).
    pub fn open_gguf(path: &Path) -> Result<Self> {
        read::open(path)
    }
}

impl<P> Adapter<P> {
    /// An adapter of pairs that are sorted by name, which says nothing of its base, its settings and its name.
    #[must_use]
    pub fn new(architecture: impl Into<String>, lora_alpha: f32, tensors: Vec<P>) -> Self {
        Self {
            architecture: architecture.into(),
            lora_alpha,
            base_sha256: None,
            task_sha256: None,
            contrast: None,
            plausibility: None,
            rope_factors: None,
            name: None,
            tensors,
        }
    }
}

impl<P: LoraPair> Adapter<P> {
    /// One adapter whose change to the base is the sum of the changes of `adapters`, each times its factor. Name,
    /// contrast and plausibility are those of the last adapter.
    ///
    /// # Errors
    ///
    /// There are no adapters, or they belong to different bases, or adapt a tensor in different shapes.
    pub fn stack<'a>(adapters: &[(&'a Self, f32)]) -> Result<Adapter<StackedPair<'a, P>>> {
        stack::stack(adapters)
    }

    /// The adapter with all its weights in memory.
    ///
    /// # Errors
    ///
    /// The errors of [`LoraPair::a`].
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

    /// Writes the adapter in GGUF format for llama.cpp, piece by piece. Weights become `ggml_type`, or keep their own
    /// type with `None`. The type is F32, F16, BF16 or one with 32 weights per block; F16 takes its place for a matrix
    /// whose rows are not whole blocks. The same adapter gives the same bytes. The file appears at once or not at all,
    /// and on Unix only its owner may read it.
    ///
    /// # Errors
    ///
    /// [`open_gguf`](Adapter::open_gguf) would refuse the adapter, its weights cannot be loaded, or the file cannot be
    /// written.
    pub fn write_gguf_as(&self, path: &Path, ggml_type: Option<GgmlType>) -> Result<()> {
        write::write(self, path, ggml_type)
    }

    /// Writes the adapter as [`write_gguf_as`](Self::write_gguf_as) does, with each weight in its own type.
    ///
    /// # Errors
    ///
    /// The errors of [`write_gguf_as`](Self::write_gguf_as).
    pub fn write_gguf(&self, path: &Path) -> Result<()> {
        self.write_gguf_as(path, None)
    }

    /// The highest rank of all pairs; 0 for an adapter without pairs.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.tensors.iter().map(LoraPair::rank).max().unwrap_or(0)
    }

    /// The factor `lora_scale` of a pair with rank `rank`, as llama.cpp computes it: `lora_alpha / rank`, or 1 if
    /// `lora_alpha` is 0.
    #[must_use]
    pub fn lora_scale(&self, rank: usize) -> f32 {
        if self.lora_alpha == 0.0 {
            1.0
        } else {
            self.lora_alpha / rank as f32
        }
    }

    /// Makes sure that the adapter belongs to a base. Compared are the architecture, the base's hash if the adapter
    /// records one, and the dimensions of every adapted tensor. `base_sha256` is the [`sha256`](crate::sha256) of the
    /// base's file.
    ///
    /// # Errors
    ///
    /// A [`Misfit`](crate::Misfit), or a base that does not name its architecture.
    pub fn check_fits(&self, base: &Gguf, base_sha256: &str) -> Result<()> {
        check::check_fits(self, base, base_sha256)
    }

    /// A copy of everything but the pairs, which are `tensors`.
    pub(crate) fn with<Q>(&self, tensors: Vec<Q>) -> Adapter<Q> {
        Adapter {
            architecture: self.architecture.clone(),
            lora_alpha: self.lora_alpha,
            base_sha256: self.base_sha256.clone(),
            task_sha256: self.task_sha256.clone(),
            contrast: self.contrast,
            plausibility: self.plausibility,
            rope_factors: self.rope_factors,
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
