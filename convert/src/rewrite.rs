//! Writes a base anew: with adapters merged into its weights, `W' = W + Σ factor · lora_scale · B A`, or with its
//! weights rounded to another type.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use crate::adapter::{Adapter, LoraPair, LoraTensor};
use crate::error::{Error, MergeFlaw, Result};
use crate::gguf::{self, GgmlType, Gguf, Sink, TensorData, TensorInfo, Value};
use crate::quant::{WRITTEN, dequantize, quantize};

/// The key of the type that most of a model's weights have, in llama.cpp's numbering.
const FILE_TYPE: &str = "general.file_type";

/// The key of the names of the adapters that have been merged into a model.
const MERGED: &str = "cope.merged";

/// The ending of the tensors that route tokens to experts. They are small, and every model keeps them precise.
const ROUTER: &str = "ffn_gate_inp.weight";

/// The number of weights that are widened at a time; at least a whole row is.
const PIECE: usize = 1 << 20;

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 4 << 20;

/// The numbers of tensors that changed their type, by the type before and the type after.
pub type Retyped = BTreeMap<(&'static str, &'static str), usize>;

/// The result of a merge.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The number of tensors that have changed.
    pub n_tensors: usize,
    /// The tensors that have another type now.
    pub retyped: Retyped,
    /// The share of the adapters' change `Δ` that is left after rounding: `Σ Δ · (W' − W) / Σ Δ²` over all tensors, the
    /// length of the projection of `W' − W` on `Δ` relative to `Δ`. It is near 1 for fine types. It is low where the
    /// steps of a type are wider than the change, since most weights are then rounded back to their old values.
    pub kept: f64,
}

/// Merges `adapters`, each times its factor, into the weights of `base`, and writes the result to `path`. It works
/// tensor by tensor, and needs a few megabytes beside the adapters' largest pair.
///
/// Metadata, order and untouched tensors stay as they are. A changed tensor becomes `ggml_type`; with `None` it keeps
/// its type, or becomes `Q8_0` if this crate does not write that type. `progress` is called with the number of bytes of
/// the base that have been done since the last call; its error ends the work, and no file is left behind.
///
/// # Errors
///
/// There are no adapters; an adapter does not fit the base, whose file has the hash `base_sha256`; a tensor to be
/// changed has a type that only ggml can widen; a changed weight is too large for its type; or a file cannot be read or
/// written.
pub fn merge<P: LoraPair>(
    base: &Gguf,
    base_sha256: &str,
    adapters: &[(Adapter<P>, f32)],
    ggml_type: Option<GgmlType>,
    path: &Path,
    progress: &dyn Fn(u64) -> Result<()>,
) -> Result<Merged> {
    base.require_model()?;
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

/// Rounds the matrices in the layers of `base` to `ggml_type`, and writes the result to `path` as [`merge`] does.
/// Embeddings, norms, the routers of experts, and matrices that have the type already stay as they are.
///
/// # Errors
///
/// The model has no layers with matrices; a tensor has a type that only ggml can widen; a weight is too large for
/// `ggml_type`; or a file cannot be read or written.
pub fn requantize(
    base: &Gguf,
    ggml_type: GgmlType,
    path: &Path,
    progress: &dyn Fn(u64) -> Result<()>,
) -> Result<Retyped> {
    base.require_model()?;
    let is_matrix = |tensor: &&TensorInfo| {
        let name = &tensor.name;
        name.starts_with("blk.") && tensor.shape.len() > 1 && !name.ends_with(ROUTER)
    };
    let matrices: Vec<_> = base.tensors.iter().filter(is_matrix).collect();
    if matrices.is_empty() {
        return Err(Error::NoMatrices(base.path.clone()));
    }
    let others = matrices.iter().filter(|it| it.ggml_type != ggml_type);
    // An empty list of pairs: the tensor is rounded, and nothing is added.
    let changes = others.map(|tensor| (tensor.name.as_str(), Vec::<(&LoraTensor, f32)>::new()));
    let changes = changes.collect();
    Ok(rewrite(base, &changes, Vec::new(), Some(ggml_type), path, progress)?.retyped)
}

/// Writes `base` with `changes`: the pairs that are added to each of these tensors, each with its factor.
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
            let copy = |out: &mut Sink<'_>| copy(tensor, progress, out);
            return TensorData::streamed(&tensor.name, &tensor.shape, tensor.ggml_type, copy);
        };
        let to = ggml_type.unwrap_or_else(|| written_as(tensor));
        if to != tensor.ggml_type {
            let key = (tensor.ggml_type.name(), to.name());
            *retyped.entry(key).or_default() += 1;
        }
        let sums = &sums;
        let change = move |out: &mut Sink<'_>| change(tensor, pairs, to, sums, progress, out);
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

/// The type of a changed tensor, if the caller asks for none.
fn written_as(tensor: &TensorInfo) -> GgmlType {
    if WRITTEN.contains(&tensor.ggml_type) {
        tensor.ggml_type
    } else {
        GgmlType::Q8_0
    }
}

/// The base's metadata, with the names of the adapters that are in the weights now, and the type that most weights have
/// now.
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

/// llama.cpp's number for a file, by the type that most weights in its matrices have; `None` for a type whose number
/// this crate does not know.
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

/// Copies a tensor unchanged.
fn copy(
    tensor: &TensorInfo,
    progress: &dyn Fn(u64) -> Result<()>,
    out: &mut Sink<'_>,
) -> Result<()> {
    let mut start = 0;
    while start < tensor.n_bytes {
        let n_bytes = COPY_BYTES.min(tensor.n_bytes - start);
        out.write(&tensor.read_part(start, n_bytes)?)?;
        progress(n_bytes)?;
        start += n_bytes;
    }
    Ok(())
}

/// Writes a tensor `(out, in)` or `(n, out, in)` in the type `to`, after adding `pairs` to it, each times its factor.
fn change<P: LoraPair>(
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
        let bytes = tensor.read_part(start, n_bytes)?;
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

/// A pair of matrices in memory, and its factor.
struct Change<'p> {
    /// `(r, in)`.
    a: Cow<'p, [f32]>,
    /// `(out, r)`.
    b: Cow<'p, [f32]>,
    rank: usize,
    scale: f32,
}

impl Change<'_> {
    /// Adds the rows of `scale · B A` from row `first` on to `delta`, whose rows have `n_in` values.
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

/// The two sums whose quotient is [`Merged::kept`].
#[derive(Default)]
struct Sums {
    /// The sum `Σ Δ · (W' − W)`.
    kept: Cell<f64>,
    /// The sum `Σ Δ²`.
    wanted: Cell<f64>,
}

impl Sums {
    /// The share of the change that is left: 1 where there was no change.
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
