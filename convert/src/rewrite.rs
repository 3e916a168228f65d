//! A base with adapters in its weights, `W' = W + Σ factor · lora_scale · B A`, each of the base's own type; and a base
//! with its weights in another type.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use crate::adapter::{Adapter, LoraPair, LoraTensor};
use crate::error::{Error, MergeFlaw, Result};
use crate::gguf::{self, GgmlType, Gguf, Sink, TensorData, TensorInfo, Value};
use crate::quant::{WRITTEN, dequantize, quantize};

/// What a model's most frequent type is, in llama.cpp's numbering.
const FILE_TYPE: &str = "general.file_type";

/// The names of the adapters that a model has been merged with.
const MERGED: &str = "cope.merged";

/// What says which experts compute: small, and precise in every model.
const ROUTER: &str = "ffn_gate_inp.weight";

/// Weights that are widened at a time, at least a row.
const PIECE: usize = 1 << 20;

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 4 << 20;

/// Tensors that became another type: from, to, and how many.
pub type Retyped = BTreeMap<(&'static str, &'static str), usize>;

/// What became of a merge.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// How many tensors have changed.
    pub n_tensors: usize,
    /// The tensors that have got another type.
    pub retyped: Retyped,
    /// The share of the adapters' change that rounding has left: the projection of `W' − W` on it, over all tensors. Near
    /// 1 for fine types; where the steps of a type are wider than the change, most of the weights stay what they were.
    pub kept: f64,
}

/// Writes `base` with `adapters`, each times a factor of its own, in its weights to `path`: tensor by tensor, within some
/// megabytes beside the adapters' largest pair. Metadata, order and untouched tensors stay as they are; a changed tensor
/// is of `ggml_type`, or keeps the type that it had, or is `Q8_0` if this code does not write that. `progress` is told how
/// many bytes of the base are done each time; its error ends the work, and nothing is left behind.
///
/// # Errors
///
/// There are no adapters; one does not fit the base, whose file has the hash `base_sha256`; a tensor to be changed is of
/// a type that only ggml can widen, or its weights leave what the type can hold; a file cannot be read or written.
pub fn merge<P: LoraPair>(
    base: &Gguf,
    base_sha256: &str,
    adapters: &[(Adapter<P>, f32)],
    ggml_type: Option<GgmlType>,
    path: &Path,
    progress: &dyn Fn(u64) -> Result<()>,
) -> Result<Merged> {
    if adapters.is_empty() {
        return Err(Error::Stack("there are no adapters to merge".into()));
    }
    let mut changes = BTreeMap::<&str, Vec<(&P, f32)>>::new();
    for (adapter, factor) in adapters {
        adapter.check_fits(base, base_sha256)?;
        for pair in &adapter.tensors {
            let scale = factor * adapter.lora_scale(pair.rank());
            changes.entry(pair.name()).or_default().push((pair, scale));
        }
    }
    let names = adapters.iter().map(|(adapter, _)| adapter.name.clone());
    let names = names.map(|name| name.unwrap_or_else(|| "unnamed".to_owned()));
    rewrite(base, &changes, names.collect(), ggml_type, path, progress)
}

/// Writes `base` with the matrices of its layers in `ggml_type` to `path`, as [`merge`] does. Embeddings, norms and the
/// routers of experts stay as they are, and so do those that have the type.
///
/// # Errors
///
/// The model has no layers with matrices, or it fails as [`merge`] does.
pub fn requantize(
    base: &Gguf,
    ggml_type: GgmlType,
    path: &Path,
    progress: &dyn Fn(u64) -> Result<()>,
) -> Result<Retyped> {
    let is_matrix = |tensor: &&TensorInfo| {
        let name = &tensor.name;
        name.starts_with("blk.") && tensor.shape.len() > 1 && !name.ends_with(ROUTER)
    };
    let matrices: Vec<_> = base.tensors.iter().filter(is_matrix).collect();
    if matrices.is_empty() {
        return Err(Error::NoMatrices(base.path.clone()));
    }
    let others = matrices.iter().filter(|it| it.ggml_type != ggml_type);
    // To each nothing is added.
    let changes = others.map(|tensor| (tensor.name.as_str(), Vec::<(&LoraTensor, f32)>::new()));
    let changes = changes.collect();
    Ok(rewrite(base, &changes, Vec::new(), Some(ggml_type), path, progress)?.retyped)
}

/// Writes `base` with `changes`: to each of these tensors pairs are added, each times its factor.
fn rewrite<P: LoraPair>(
    base: &Gguf,
    changes: &BTreeMap<&str, Vec<(&P, f32)>>,
    names: Vec<String>,
    ggml_type: Option<GgmlType>,
    path: &Path,
    progress: &dyn Fn(u64) -> Result<()>,
) -> Result<Merged> {
    let sums = Sums::default();
    let mut retyped = Retyped::new();
    let tensors = base.tensors.iter().map(|tensor| {
        let Some(pairs) = changes.get(tensor.name.as_str()) else {
            let copy = |out: &mut Sink<'_>| copy(base, tensor, progress, out);
            return TensorData::streamed(&tensor.name, &tensor.shape, tensor.ggml_type, copy);
        };
        let to = ggml_type.unwrap_or_else(|| written_as(tensor));
        if to != tensor.ggml_type {
            let key = (tensor.ggml_type.name(), to.name());
            *retyped.entry(key).or_default() += 1;
        }
        let sums = &sums;
        let change = move |out: &mut Sink<'_>| change(base, tensor, pairs, to, sums, progress, out);
        TensorData::streamed(&tensor.name, &tensor.shape, to, change)
    });
    let tensors: Vec<_> = tensors.collect();
    gguf::write(path, &metadata(base, names, &tensors), &tensors)?;
    Ok(Merged {
        n_tensors: changes.len(),
        retyped,
        kept: sums.share(),
    })
}

/// The type of a changed tensor, if none is asked for.
fn written_as(tensor: &TensorInfo) -> GgmlType {
    if WRITTEN.contains(&tensor.ggml_type) {
        tensor.ggml_type
    } else {
        GgmlType::Q8_0
    }
}

/// The base's, with the names of adapters that are in the weights now, and the type that most of these have.
fn metadata(base: &Gguf, names: Vec<String>, tensors: &[TensorData<'_>]) -> Vec<(String, Value)> {
    let mut metadata = base.metadata.clone();
    if !names.is_empty() {
        let mut merged = match base.get(MERGED) {
            Some(Value::Array(gguf::Array::String(names))) => names.clone(),
            _ => Vec::new(),
        };
        merged.extend(names);
        metadata.retain(|(key, _)| key != MERGED);
        metadata.push((MERGED.to_owned(), Value::from(merged)));
    }
    let same = |(old, new): (&TensorInfo, &TensorData<'_>)| old.ggml_type == new.ggml_type();
    let retyped = !base.tensors.iter().zip(tensors).all(same);
    if let Some((_, value)) = metadata.iter_mut().find(|(key, _)| key == FILE_TYPE)
        && let Some(file_type) = retyped.then(|| file_type(tensors)).flatten()
    {
        *value = Value::from(file_type);
    }
    metadata
}

/// llama.cpp's number for a file whose matrices are mostly of one type, by weights; `None` for a type without one here.
fn file_type(tensors: &[TensorData<'_>]) -> Option<u32> {
    let mut weights = BTreeMap::<u32, u64>::new();
    for tensor in tensors.iter().filter(|tensor| tensor.shape().len() > 1) {
        *weights.entry(tensor.ggml_type().id()).or_default() +=
            tensor.shape().iter().product::<u64>();
    }
    let (&id, _) = weights.iter().max_by_key(|(_, n)| **n)?;
    Some(match GgmlType::from_id(id)? {
        GgmlType::F32 => 0,
        GgmlType::F16 => 1,
        GgmlType::Q4_0 => 2,
        GgmlType::Q4_1 => 3,
        GgmlType::Q8_0 => 7,
        GgmlType::Q5_0 => 8,
        GgmlType::Q5_1 => 9,
        GgmlType::BF16 => 32,
        _ => return None,
    })
}

/// A tensor as it is.
fn copy(
    base: &Gguf,
    tensor: &TensorInfo,
    progress: &dyn Fn(u64) -> Result<()>,
    out: &mut Sink<'_>,
) -> Result<()> {
    let mut start = 0;
    while start < tensor.n_bytes {
        let n_bytes = COPY_BYTES.min(tensor.n_bytes - start);
        out.write(&base.read_part(tensor, start, n_bytes)?)?;
        progress(n_bytes)?;
        start += n_bytes;
    }
    Ok(())
}

/// A tensor `(out, in)`, or `(n, out, in)`, with what `pairs` add, each times its factor, as `to`.
fn change<P: LoraPair>(
    base: &Gguf,
    tensor: &TensorInfo,
    pairs: &[(&P, f32)],
    to: GgmlType,
    sums: &Sums,
    progress: &dyn Fn(u64) -> Result<()>,
    out: &mut Sink<'_>,
) -> Result<()> {
    let refuse = |flaw| Error::Merge {
        tensor: tensor.name.clone(),
        flaw,
    };
    let loaded = pairs.iter().map(|(pair, scale)| {
        Ok(Change {
            a: pair.a()?,
            b: pair.b()?,
            rank: pair.rank(),
            scale: *scale,
        })
    });
    let changes = loaded.collect::<Result<Vec<_>>>()?;
    let n_in = tensor.shape[0] as usize;
    let n_out = tensor.shape[1..].iter().product::<u64>() as usize;
    let row_bytes = tensor.n_bytes / n_out as u64;
    let rows_at_once = (PIECE / n_in).max(1);
    for first in (0..n_out).step_by(rows_at_once) {
        let n_rows = rows_at_once.min(n_out - first);
        let (start, n_bytes) = (first as u64 * row_bytes, n_rows as u64 * row_bytes);
        let bytes = base.read_part(tensor, start, n_bytes)?;
        let weights = dequantize(tensor.ggml_type, &bytes)
            .ok_or_else(|| refuse(MergeFlaw::Type(tensor.ggml_type)))?;
        let mut delta = vec![0.0; weights.len()];
        for change in &changes {
            change.add_rows(first, n_in, &mut delta);
        }
        let merged: Vec<_> = weights.iter().zip(&delta).map(|(w, d)| w + d).collect();
        if !merged.iter().all(|it| it.is_finite()) {
            return Err(refuse(MergeFlaw::NotFinite));
        }
        let rounded = quantize(to, &merged).ok_or_else(|| refuse(MergeFlaw::TooLarge(to)))?;
        let now = dequantize(to, &rounded).ok_or_else(|| refuse(MergeFlaw::Type(to)))?;
        sums.add(&weights, &delta, &now);
        out.write(&rounded)?;
        progress(n_bytes)?;
    }
    Ok(())
}

/// A pair in memory, and its factor.
struct Change<'p> {
    /// `(r, in)`.
    a: Cow<'p, [f32]>,
    /// `(out, r)`.
    b: Cow<'p, [f32]>,
    rank: usize,
    scale: f32,
}

impl Change<'_> {
    /// Adds the rows from `first` on of `scale · B A` to `delta`, which has whole rows of `n_in`.
    fn add_rows(&self, first: usize, n_in: usize, delta: &mut [f32]) {
        let rows_of_b = self.b.chunks_exact(self.rank).skip(first);
        for (row, b) in delta.chunks_exact_mut(n_in).zip(rows_of_b) {
            for (b, a) in b.iter().zip(self.a.chunks_exact(n_in)) {
                let factor = self.scale * b;
                for (delta, a) in row.iter_mut().zip(a) {
                    *delta += factor * a;
                }
            }
        }
    }
}

/// What [`Merged::kept`] is made of.
#[derive(Default)]
struct Sums {
    /// `Σ Δ · (W' − W)`.
    kept: Cell<f64>,
    /// `Σ Δ²`.
    wanted: Cell<f64>,
}

impl Sums {
    /// Of no change nothing is lost.
    fn share(&self) -> f64 {
        match self.wanted.get() {
            0.0 => 1.0,
            wanted => self.kept.get() / wanted,
        }
    }

    fn add(&self, before: &[f32], delta: &[f32], now: &[f32]) {
        let (mut kept, mut wanted) = (self.kept.get(), self.wanted.get());
        for ((before, delta), now) in before.iter().zip(delta).zip(now) {
            kept += f64::from(delta * (now - before));
            wanted += f64::from(delta * delta);
        }
        self.kept.set(kept);
        self.wanted.set(wanted);
    }
}
