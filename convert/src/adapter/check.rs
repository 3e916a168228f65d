//! What an adapter must satisfy by itself, read or written, and what it must satisfy with its base.

use crate::error::{AdapterFlaw, Error, Misfit, Result, excerpt};
use crate::gguf::Gguf;

use super::{Adapter, CONTRAST, LORA_A, LORA_ALPHA, LORA_B, LoraTensor, Matrix, PLAUSIBILITY};

/// The largest rank accepted: as wide as whole layers of the models in question, so no longer low-rank.
const MAX_RANK: usize = 4096;

/// Makes sure that llama.cpp can load the adapter and that its numbers are numbers.
pub(super) fn check(adapter: &Adapter) -> Result<(), AdapterFlaw> {
    check_settings(adapter)?;
    let rank = adapter.tensors.first().ok_or(AdapterFlaw::Empty)?.rank();
    for tensor in &adapter.tensors {
        check_pair(tensor)?;
        if tensor.rank() != rank {
            return Err(AdapterFlaw::MixedRanks {
                tensor: tensor.name.clone(),
                expected: rank,
                got: tensor.rank(),
            });
        }
    }
    Ok(())
}

fn check_settings(adapter: &Adapter) -> Result<(), AdapterFlaw> {
    let settings = [
        (LORA_ALPHA, Some(adapter.lora_alpha)),
        (CONTRAST, adapter.contrast),
        (PLAUSIBILITY, adapter.plausibility),
    ];
    for (key, value) in settings {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(AdapterFlaw::NotFinite(key.to_owned()));
        }
    }
    let is_hash = |text: &String| {
        text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !adapter.base_sha256.as_ref().is_none_or(is_hash) {
        return Err(AdapterFlaw::BaseHash);
    }
    if !adapter.task_sha256.as_ref().is_none_or(is_hash) {
        return Err(AdapterFlaw::TaskHash);
    }
    Ok(())
}

fn check_pair(pair: &LoraTensor) -> Result<(), AdapterFlaw> {
    let tensor = &pair.name;
    // Where llama.cpp looks for it too.
    if tensor.ends_with("token_embd.weight") {
        return Err(AdapterFlaw::TokenEmbedding(tensor.clone()));
    }
    if pair.a.rows != pair.b.cols {
        return Err(AdapterFlaw::Pair {
            tensor: tensor.clone(),
            a: pair.a.rows,
            b: pair.b.cols,
        });
    }
    if !(1..=MAX_RANK).contains(&pair.rank()) {
        return Err(AdapterFlaw::Rank {
            tensor: tensor.clone(),
            got: pair.rank(),
            limit: MAX_RANK,
        });
    }
    check_matrix(tensor, LORA_A, &pair.a)?;
    check_matrix(tensor, LORA_B, &pair.b)
}

fn check_matrix(tensor: &str, suffix: &str, matrix: &Matrix) -> Result<(), AdapterFlaw> {
    let Matrix {
        rows,
        cols,
        ref data,
    } = *matrix;
    if rows.checked_mul(cols) != Some(data.len()) {
        return Err(AdapterFlaw::DataLength {
            tensor: format!("{tensor}{suffix}"),
            rows,
            cols,
            got: data.len(),
        });
    }
    if !data.iter().all(|value| value.is_finite()) {
        return Err(AdapterFlaw::NotFinite(format!("{tensor}{suffix}")));
    }
    Ok(())
}

/// Makes sure that the adapter belongs to the base.
pub(super) fn check_fits(adapter: &Adapter, base: &Gguf, base_sha256: &str) -> Result<()> {
    let refuse = |misfit| {
        Err(Error::Misfit {
            base: base.path.clone(),
            misfit,
        })
    };
    let architecture = base.architecture()?;
    if adapter.architecture != architecture {
        let (expected, got) = (excerpt(&adapter.architecture), excerpt(architecture));
        return refuse(Misfit::Architecture { expected, got });
    }
    if let Some(expected) = adapter
        .base_sha256
        .as_ref()
        .filter(|&expected| expected != base_sha256)
    {
        return refuse(Misfit::Base {
            expected: expected.clone(),
            got: base_sha256.to_owned(),
        });
    }
    for LoraTensor { name, a, b } in &adapter.tensors {
        let Some(tensor) = base.tensor(name) else {
            return refuse(Misfit::MissingTensor(name.clone()));
        };
        let expected = [a.cols as u64, b.rows as u64];
        if tensor.shape != expected {
            return refuse(Misfit::Shape {
                tensor: name.clone(),
                expected,
                got: tensor.shape.clone(),
            });
        }
    }
    Ok(())
}
