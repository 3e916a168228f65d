//! Reads an adapter from a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{AdapterFlaw, Error, Result, excerpt};
use crate::gguf::{Gguf, TensorInfo};

use super::check::{check, check_ranks};
use super::{
    ADAPTER_TYPE, Adapter, BASE_SHA256, CONTRAST, GENERAL_ARCHITECTURE, GENERAL_NAME, GENERAL_TYPE,
    LORA_A, LORA_ALPHA, LORA_B, PLAUSIBILITY, ROPE_FACTORS, StoredMatrix, StoredPair, TASK_SHA256,
};
use crate::quant::WRITTEN;
use crate::rope_factors::RopeFactors;

/// The key of an activated LoRA, which acts only after certain tokens. This program does not look for such tokens.
const ALORA_TOKENS: &str = "adapter.alora.invocation_tokens";

/// Reads and checks the adapter at `path`; its weights stay on disk.
pub(super) fn open(path: &Path) -> Result<Adapter<StoredPair>> {
    let file = Gguf::open(path)?;
    check_type(&file)?;
    let path: Arc<Path> = path.into();
    let tensors = pair_tensors(&file)?
        .into_iter()
        .map(|(name, (a, b))| {
            let [a, b] = [matrix(&file, &path, a)?, matrix(&file, &path, b)?];
            check_ranks(name, a.rows, b.cols).map_err(|flaw| refuse(&file, flaw))?;
            let name = name.to_owned();
            Ok(StoredPair::new(name, a, b))
        })
        .collect::<Result<_>>()?;
    let adapter = Adapter {
        architecture: file.str(GENERAL_ARCHITECTURE)?.to_owned(),
        lora_alpha: optional(&file, LORA_ALPHA, Gguf::f32)?.unwrap_or(0.0),
        base_sha256: optional(&file, BASE_SHA256, Gguf::str)?.map(str::to_owned),
        task_sha256: optional(&file, TASK_SHA256, Gguf::str)?.map(str::to_owned),
        contrast: optional(&file, CONTRAST, Gguf::f32)?,
        plausibility: optional(&file, PLAUSIBILITY, Gguf::f32)?,
        rope_factors: rope_factors(&file)?,
        name: optional(&file, GENERAL_NAME, Gguf::str)?.map(str::to_owned),
        tensors,
    };
    check(&adapter).map_err(|flaw| refuse(&file, flaw))?;
    Ok(adapter)
}

fn refuse(file: &Gguf, flaw: AdapterFlaw) -> Error {
    Error::Adapter {
        path: file.path.clone(),
        flaw,
    }
}

/// The value of a key, or `None` if the key is missing. A value of another type is an error.
fn optional<'g, T>(
    file: &'g Gguf,
    key: &str,
    read: fn(&'g Gguf, &str) -> Result<T>,
) -> Result<Option<T>> {
    file.get(key).map(|_| read(file, key)).transpose()
}

/// The set of factors that the adapter was trained with, if the file says.
fn rope_factors(file: &Gguf) -> Result<Option<RopeFactors>> {
    let Some(name) = optional(file, ROPE_FACTORS, Gguf::str)? else {
        return Ok(None);
    };
    let found = RopeFactors::from_name(name);
    let found = found.ok_or_else(|| refuse(file, AdapterFlaw::RopeFactors(excerpt(name))))?;
    Ok(Some(found))
}

/// Refuses all but plain LoRA adapters.
fn check_type(file: &Gguf) -> Result<()> {
    let general_type = optional(file, GENERAL_TYPE, Gguf::str)?;
    if general_type != Some("adapter") {
        return Err(refuse(
            file,
            AdapterFlaw::NotAnAdapter {
                general_type: general_type.map(excerpt),
            },
        ));
    }
    let adapter_type = optional(file, ADAPTER_TYPE, Gguf::str)?;
    let adapter_type = if file.get(ALORA_TOKENS).is_some() {
        Some("alora")
    } else {
        adapter_type
    };
    if adapter_type != Some("lora") {
        return Err(refuse(
            file,
            AdapterFlaw::Type {
                adapter_type: adapter_type.map(excerpt),
            },
        ));
    }
    Ok(())
}

/// The halves `(A, B)` of each base tensor, by its name.
fn pair_tensors(file: &Gguf) -> Result<BTreeMap<&str, (&TensorInfo, &TensorInfo)>> {
    let mut halves = BTreeMap::<&str, (Option<&TensorInfo>, Option<&TensorInfo>)>::new();
    for tensor in &file.tensors {
        if let Some(name) = tensor.name.strip_suffix(LORA_A) {
            halves.entry(name).or_default().0 = Some(tensor);
        } else if let Some(name) = tensor.name.strip_suffix(LORA_B) {
            halves.entry(name).or_default().1 = Some(tensor);
        } else {
            return Err(refuse(file, AdapterFlaw::Suffix(tensor.name.clone())));
        }
    }
    let whole = |(name, pair): (_, _)| match pair {
        (Some(a), Some(b)) => Ok((name, (a, b))),
        (a, _) => {
            let missing = if a.is_none() { LORA_A } else { LORA_B };
            Err(refuse(
                file,
                AdapterFlaw::Half {
                    tensor: str::to_owned(name),
                    missing,
                },
            ))
        }
    };
    halves.into_iter().map(whole).collect()
}

/// The place of a matrix in the file.
fn matrix(file: &Gguf, path: &Arc<Path>, tensor: &TensorInfo) -> Result<StoredMatrix> {
    // ggml's own writer leaves out trailing dimensions of 1, such as the rows of an `A` with rank 1.
    let (cols, rows) = match *tensor.shape {
        [cols] => (cols, 1),
        [cols, rows] | [cols, rows, 1] | [cols, rows, 1, 1] => (cols, rows),
        _ => {
            let (tensor, shape) = (tensor.name.clone(), tensor.shape.clone());
            return Err(refuse(file, AdapterFlaw::NotMatrix { tensor, shape }));
        }
    };
    let ggml_type = tensor.ggml_type;
    if !WRITTEN.contains(&ggml_type) {
        let tensor = tensor.name.clone();
        return Err(refuse(file, AdapterFlaw::TensorType { tensor, ggml_type }));
    }
    Ok(StoredMatrix {
        path: Arc::clone(path),
        tensor: tensor.name.clone(),
        rows: rows as usize,
        cols: cols as usize,
        ggml_type,
        written_as: ggml_type,
        offset: tensor.offset,
        heads: None,
        value_heads: None,
        is_transposed: false,
        factor: 1.0,
    })
}
