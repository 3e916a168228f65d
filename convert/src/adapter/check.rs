//! Checks of an adapter: those that it must pass by itself, when it is read or written, and those against its base.

use crate::error::{AdapterFlaw, Error, Misfit, Result, excerpt};
use crate::family::{HEAD, fused_tensor};
use crate::gguf::Gguf;

use super::{Adapter, CONTRAST, LORA_ALPHA, LoraPair, PLAUSIBILITY};

/// The table of token embeddings, which is the head too in a base without [`HEAD`].
const EMBEDDING: &str = "token_embd.weight";

/// The largest rank accepted. A layer of the largest supported models is as wide, so a higher rank is not low any more.
const MAX_RANK: usize = 4096;

/// Makes sure that llama.cpp can load the adapter, as far as that can be told without its weights.
pub(crate) fn check<P: LoraPair>(adapter: &Adapter<P>) -> Result<(), AdapterFlaw> {
    check_settings(adapter)?;
    if adapter.tensors.is_empty() {
        return Err(AdapterFlaw::Empty);
    }
    for pair in &adapter.tensors {
        let tensor = pair.name();
        // llama.cpp recognises the token embedding by the same ending.
        if tensor.ends_with("token_embd.weight") {
            return Err(AdapterFlaw::TokenEmbedding(tensor.to_owned()));
        }
        if !(1..=MAX_RANK).contains(&pair.rank()) {
            return Err(AdapterFlaw::Rank {
                tensor: tensor.to_owned(),
                got: pair.rank(),
                limit: MAX_RANK,
            });
        }
    }
    Ok(())
}

/// Makes sure that the halves of a pair can be multiplied.
pub(crate) fn check_ranks(tensor: &str, a: usize, b: usize) -> Result<(), AdapterFlaw> {
    if a == b {
        return Ok(());
    }
    Err(AdapterFlaw::Pair {
        tensor: tensor.to_owned(),
        a,
        b,
    })
}

fn check_settings<P>(adapter: &Adapter<P>) -> Result<(), AdapterFlaw> {
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

/// Makes sure that the adapter belongs to the base.
pub(super) fn check_fits<P: LoraPair>(
    adapter: &Adapter<P>,
    base: &Gguf,
    base_sha256: &str,
) -> Result<()> {
    let refuse = |misfit| {
        Err(Error::Misfit {
            base: base.path.clone(),
            misfit,
        })
    };
    base.require_model()?;
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
    for pair in &adapter.tensors {
        let name = pair.name();
        let Some(tensor) = base.tensor(name) else {
            return refuse(missing(base, name));
        };
        let expected = [pair.n_in() as u64, pair.n_out() as u64];
        if tensor.shape != expected {
            return refuse(Misfit::Shape {
                tensor: name.to_owned(),
                expected,
                got: tensor.shape.clone(),
            });
        }
    }
    Ok(())
}

/// The reason why `base` has no tensor of this name.
fn missing(base: &Gguf, name: &str) -> Misfit {
    if name == HEAD && base.tensor(EMBEDDING).is_some() {
        return Misfit::TiedHead;
    }
    match fused_tensor(base, name) {
        Some(fused) => Misfit::Fused {
            tensor: name.to_owned(),
            fused: fused.name.clone(),
        },
        None => Misfit::MissingTensor(name.to_owned()),
    }
}
