//! Reads an adapter from a PEFT folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::adapter::check::{check, check_ranks};
use crate::adapter::{
    Adapter, BASE_SHA256, CONTRAST, GENERAL_NAME, LORA_ALPHA, PLAUSIBILITY, StoredMatrix,
    StoredPair, TASK_SHA256,
};
use crate::error::{Error, PeftFlaw, Result, excerpt};
use crate::family::Family;
use crate::gguf::Gguf;
use crate::quant::WRITTEN;
use crate::safetensors::{SafeTensors, TensorEntry};

use super::adapter_config::Config;
use super::{CONFIG, GGUF_PREFIX, PREFIX, TYPE, WEIGHTS};

/// Reads and checks the adapter in `folder`; its weights stay on disk.
pub(super) fn open(folder: &Path, base: &Gguf) -> Result<Adapter<StoredPair>> {
    let family = Family::read(base)?;
    let config = Config::read(&folder.join(CONFIG))?;
    let weights = SafeTensors::open(&folder.join(WEIGHTS))?;
    let refuse = |flaw| Error::Peft {
        path: weights.path.clone(),
        flaw,
    };
    let path: Arc<Path> = weights.path.as_path().into();
    let mut halves = BTreeMap::<String, [Option<StoredMatrix>; 2]>::new();
    for tensor in &weights.tensors {
        let (name, half) = place(&family, &tensor.name).map_err(refuse)?;
        let heads = (half == B).then(|| family.moved_heads(&name)).flatten();
        let mut matrix = matrix(&path, tensor, heads).map_err(refuse)?;
        let key = format!("{GGUF_PREFIX}{TYPE}.{}", tensor.name);
        if let Some(text) = weights.metadata.get(&key) {
            let found = WRITTEN.into_iter().find(|it| it.name() == text);
            matrix.written_as = found.ok_or_else(|| refuse(PeftFlaw::Metadata(excerpt(&key))))?;
        }
        let place = &mut halves.entry(name).or_default()[half];
        if place.replace(matrix).is_some() {
            return Err(refuse(PeftFlaw::Twice(excerpt(&tensor.name))));
        }
    }
    let tensors = halves.into_iter().map(|(name, halves)| {
        let [Some(a), Some(b)] = halves else {
            return Err(refuse(PeftFlaw::Half(name)));
        };
        check_ranks(&name, a.rows, b.cols).map_err(|flaw| refuse(flaw.into()))?;
        Ok(StoredPair { name, a, b })
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let text = |key: &str| weights.metadata.get(&format!("{GGUF_PREFIX}{key}"));
    let number = |key: &str| {
        let number = text(key).map(|text| f32::from_str(text));
        number
            .transpose()
            .map_err(|_| refuse(PeftFlaw::Metadata(key.to_owned())))
    };
    let mut adapter = Adapter {
        architecture: family.architecture,
        lora_alpha: config.gguf_alpha(),
        base_sha256: text(BASE_SHA256).cloned(),
        task_sha256: text(TASK_SHA256).cloned(),
        contrast: number(CONTRAST)?,
        plausibility: number(PLAUSIBILITY)?,
        name: text(GENERAL_NAME).cloned(),
        tensors,
    };
    // PEFT cannot say "no alpha": the writer put the rank in its place, and noted alpha's value of 0 in the metadata.
    if number(LORA_ALPHA)? == Some(0.0) && adapter.lora_alpha - adapter.rank() as f32 == 0.0 {
        adapter.lora_alpha = 0.0;
    }
    check(&adapter).map_err(|flaw| refuse(flaw.into()))?;
    let recorded = adapter.base_sha256.clone().unwrap_or_default();
    adapter.check_fits(base, &recorded)?;
    Ok(adapter)
}

/// The index of `B` in a pair of halves; that of `A` is 0.
const B: usize = 1;

/// The base tensor that one of PEFT's tensors adapts, and which half of the pair it is: 0 for `A`, [`B`] for `B`.
fn place(family: &Family, tensor: &str) -> Result<(String, usize), PeftFlaw> {
    let unknown = || PeftFlaw::Tensor(excerpt(tensor));
    let rest = tensor.strip_prefix(PREFIX).ok_or_else(unknown)?;
    // Older versions put the adapter's name, "default", before the last part.
    let rest = rest.strip_suffix(".weight").ok_or_else(unknown)?;
    let rest = rest.strip_suffix(".default").unwrap_or(rest);
    let (module, half) = match rest.rsplit_once('.') {
        Some((module, "lora_A")) => (module, 0),
        Some((module, "lora_B")) => (module, B),
        _ => return Err(unknown()),
    };
    let name = family.tensor(module);
    let name = name.ok_or_else(|| PeftFlaw::Module {
        module: excerpt(module),
        architecture: family.architecture.clone(),
    })?;
    Ok((name, half))
}

/// The place of a matrix in the file. `heads` is given if its rows have to be reordered within so many heads.
fn matrix(
    path: &Arc<Path>,
    tensor: &TensorEntry,
    heads: Option<usize>,
) -> Result<StoredMatrix, PeftFlaw> {
    let shape = || PeftFlaw::Shape {
        tensor: excerpt(&tensor.name),
        shape: tensor.shape.clone(),
    };
    let [rows, cols] = *tensor.shape else {
        return Err(shape());
    };
    if heads.is_some_and(|heads| heads == 0 || !(rows as usize).is_multiple_of(2 * heads)) {
        return Err(shape());
    }
    Ok(StoredMatrix {
        path: Arc::clone(path),
        tensor: tensor.name.clone(),
        rows: rows as usize,
        cols: cols as usize,
        ggml_type: tensor.dtype.into(),
        written_as: tensor.dtype.into(),
        offset: tensor.offset,
        heads,
    })
}
