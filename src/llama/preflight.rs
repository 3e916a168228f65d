//! Checks of a model's metadata, for flaws on which llama.cpp would end the process (when loading, or at the first text)
//! instead of refusing the file, and for kinds of files that it would accept but that cannot generate text. llama.cpp itself
//! refuses values that are missing or of a wrong type or shape.

use std::collections::HashSet;
use std::path::Path;

use cope_convert::gguf::{Array, Gguf, Value};

use crate::{Error, Result};

/// llama.cpp's `LLAMA_MAX_LAYERS`.
const MAX_LAYERS: u32 = 512;
/// llama.cpp's `LLAMA_MAX_EXPERTS`.
const MAX_EXPERTS: u32 = 1024;

/// Refuses a model that would make llama.cpp end the process, or that does not generate text; the error names the file.
pub(super) fn check(path: &Path, model: &Gguf) -> Result<()> {
    let architecture = model.architecture()?;
    let metadata = Metadata {
        model,
        architecture,
    };
    [
        check_kind,
        check_layers,
        check_experts,
        check_numbers,
        check_tokens,
    ]
    .into_iter()
    .try_for_each(|check| check(&metadata))
    .map_err(|flaw| Error::input(format!("{} cannot be used: {flaw}", path.display())))
}

type Check = Result<(), String>;

/// A model's metadata, with the keys of its architecture without their prefix.
struct Metadata<'a> {
    model: &'a Gguf,
    architecture: &'a str,
}

impl Metadata<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.model.get(&format!("{}.{key}", self.architecture))
    }

    /// A count; 0 if it is missing. An array has one count for each layer, and the largest is returned.
    fn count(&self, key: &str) -> u32 {
        match self.get(key) {
            Some(Value::Array(Array::U32(counts))) => counts.iter().copied().max().unwrap_or(0),
            Some(Value::Array(Array::I32(counts))) => {
                counts.iter().map(|&count| count as u32).max().unwrap_or(0)
            }
            value => value.and_then(Value::as_u32).unwrap_or(0),
        }
    }
}

fn require(condition: bool, flaw: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { Err(flaw()) }
}

fn check_kind(metadata: &Metadata<'_>) -> Check {
    let is = |key, value| metadata.model.get(key).and_then(Value::as_str) == Some(value);
    require(!is("general.type", "adapter"), || {
        "it is an adapter; give the model that it was trained on".to_owned()
    })?;
    require(
        metadata.get("attention.causal") != Some(&Value::Bool(false)),
        || {
            "it is a model that embeds text and does not write any; give a language model"
                .to_owned()
        },
    )?;
    let is_whole = match metadata.model.get("split.count") {
        Some(value) => value.as_u32().is_none_or(|count| count <= 1),
        None => true,
    };
    // llama.cpp would open the other parts, which have not been checked.
    require(is_whole, || {
        "it is one part of a model that is split; join the parts".to_owned()
    })
}

fn check_layers(metadata: &Metadata<'_>) -> Check {
    if metadata.get("block_count").is_none() {
        return Ok(());
    }
    let layers = metadata.count("block_count");
    require((1..=MAX_LAYERS).contains(&layers), || {
        format!("it claims {layers} layers, and 1 to {MAX_LAYERS} are supported")
    })?;
    let extra = metadata.count("nextn_predict_layers");
    require(extra <= layers, || {
        format!("it claims {extra} layers for further tokens among its {layers}")
    })
}

fn check_experts(metadata: &Metadata<'_>) -> Check {
    let experts = metadata.count("expert_count");
    let used = metadata.count("expert_used_count");
    let groups = metadata.count("expert_group_count");
    let groups_used = metadata.count("expert_group_used_count");
    let is_sound = if experts == 0 {
        used == 0 && groups == 0
    } else {
        let are_grouped = groups > 1;
        (1..=experts).contains(&used)
            && experts <= MAX_EXPERTS
            && groups < experts
            && (!are_grouped
                || experts.is_multiple_of(groups) && (1..groups).contains(&groups_used))
    };
    require(is_sound, || {
        format!(
            "its numbers of experts contradict each other: {used} of {experts}, in {groups_used} of {groups} groups"
        )
    })
}

fn check_numbers(metadata: &Metadata<'_>) -> Check {
    for key in [
        "attention.layer_norm_rms_epsilon",
        "attention.layer_norm_epsilon",
    ] {
        if let Some(epsilon) = metadata.get(key).and_then(Value::as_f32) {
            require(epsilon >= 0.0 && epsilon.is_finite(), || {
                format!("its {key} is {epsilon}")
            })?;
        }
    }
    if let Some(scaling) = metadata.get("rope.scaling.type").and_then(Value::as_str) {
        require(
            ["none", "linear", "yarn", "longrope"].contains(&scaling),
            || format!("its rope.scaling.type {scaling:?} is unknown"),
        )?;
    }
    Ok(())
}

fn check_tokens(metadata: &Metadata<'_>) -> Check {
    let Some(Value::Array(Array::String(tokens))) = metadata.model.get("tokenizer.ggml.tokens")
    else {
        return Ok(());
    };
    let mut seen = HashSet::with_capacity(tokens.len());
    if let Some(twice) = tokens
        .iter()
        .find(|token| !token.is_empty() && !seen.insert(*token))
    {
        return Err(format!("its vocabulary has the token {twice:?} twice"));
    }
    let kind = metadata
        .model
        .get("tokenizer.ggml.model")
        .and_then(Value::as_str);
    // SentencePiece falls back to byte tokens for text that has no other token.
    let has_byte = |byte: u8| {
        seen.contains(&format!("<0x{byte:02X}>"))
            || byte.is_ascii() && seen.contains(&char::from(byte).to_string())
    };
    require(kind != Some("llama") || (0..=u8::MAX).all(has_byte), || {
        "its vocabulary does not have all bytes as tokens".to_owned()
    })
}
