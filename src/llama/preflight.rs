//! Checks of a model's header, for flaws on which llama.cpp would end the process (when loading, or at the first text)
//! instead of refusing the file, and for kinds of files that it would accept but that cannot generate text. llama.cpp itself
//! refuses values that are missing or of a wrong type or shape.
//!
//! The attention heads and the types of tensors are checked for the families that can be trained. For others it is not
//! known what the operations of their graphs take.

mod gemma4;
mod recurrent;
mod tensors;

use std::collections::HashSet;
use std::path::Path;

use cope_convert::Adapter;
use cope_convert::gguf::{Array, Gguf, Value};

use crate::{Error, Result};

#[cfg(feature = "train")]
pub use recurrent::recurrent_layers;

/// llama.cpp's `LLAMA_MAX_LAYERS`.
const MAX_LAYERS: u32 = 512;
/// llama.cpp's `LLAMA_MAX_EXPERTS`.
const MAX_EXPERTS: u32 = 1024;

/// Largest `rope.scaling.attn_factor`. Those of real models are below 2; a cache of half precision overflows at some
/// thousands.
const MAX_ATTENTION_FACTOR: f32 = 1000.0;

/// The kinds of vocabularies that models of the known families have.
const VOCABULARIES: [&str; 3] = ["llama", "gpt2", "gemma4"];
/// The kinds of vocabularies whose tokenizers end the process at a token that stands for a byte.
const WITHOUT_BYTES: [&str; 2] = ["bert", "rwkv"];
/// The kinds of vocabularies in which the text of such a token is its byte, as in `<0x0A>`.
const WITH_BYTES: [&str; 4] = ["llama", "gpt2", "gemma4", "t5"];
/// llama.cpp's type of a token that stands for a byte.
const BYTE: i32 = 6;

/// The families whose graphs are known.
const FAMILIES: [&str; 13] = [
    "gemma2", "gemma3", "gemma4", "granite", "lfm2", "llama", "mistral3", "olmo2", "phi3", "qwen2",
    "qwen3", "qwen35", "smollm3",
];
/// The families whose heads have the whole width between them.
const WHOLE_WIDTH: [&str; 3] = ["lfm2", "olmo2", "phi3"];
/// The families whose blocks can have sliding attention, and which of them have it if the file does not say.
const SLIDING: &[(&str, SlidingPattern)] = &[
    ("gemma2", SlidingPattern::FullEach(2)),
    ("gemma3", SlidingPattern::FullEach(6)),
    ("gemma4", SlidingPattern::Listed),
    ("olmo2", SlidingPattern::FullEach(4)),
];
/// Those of them that always have a window.
const ALWAYS_SLIDING: [&str; 2] = ["gemma2", "gemma4"];

/// The blocks with sliding attention, if the file does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SlidingPattern {
    /// All but the last of this many blocks in a row.
    FullEach(u32),
    /// The file has to list them.
    Listed,
}

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
        check_heads,
        check_sliding,
        recurrent::check,
        gemma4::check,
        check_counts,
        check_numbers,
        check_scales,
        tensors::check,
        check_tokens,
        check_vocabulary,
    ]
    .into_iter()
    .try_for_each(|check| check(&metadata))
    .map_err(|flaw| refusal(path, &flaw))
}

/// `error`, by which llama.cpp has refused the model at `path`, or a better one: which tensor no model of its family has.
pub(super) fn explain(path: &Path, model: &Gguf, error: Error) -> Error {
    let is_count =
        matches!(&error, Error::Llama { reason, .. } if reason.contains("number of tensors"));
    let unknown = || {
        let architecture = model.architecture().ok()?;
        tensors::unknown(&Metadata {
            model,
            architecture,
        })
    };
    match unknown().filter(|_| is_count) {
        Some(flaw) => refusal(path, &flaw),
        None => error,
    }
}

/// Refuses an adapter at `path` that would make llama.cpp end the process on a base that it fits.
pub(super) fn check_adapter(path: &Path, adapter: &Adapter, base: &Gguf) -> Result<()> {
    tensors::check_adapter(&base.tensors, adapter).map_err(|flaw| refusal(path, &flaw))
}

fn refusal(path: &Path, flaw: &str) -> Error {
    Error::input(format!("{} cannot be used: {flaw}", path.display()))
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
        self.counts(key).into_iter().max().unwrap_or(0)
    }

    /// A single count, or `default`.
    fn count_or(&self, key: &str, default: u32) -> u32 {
        self.get(key).and_then(Value::as_u32).unwrap_or(default)
    }

    /// The counts of an array, or a single one; none if it is missing.
    fn counts(&self, key: &str) -> Vec<u32> {
        match self.get(key) {
            Some(Value::Array(Array::U32(counts))) => counts.clone(),
            Some(Value::Array(Array::I32(counts))) => {
                counts.iter().map(|&count| count as u32).collect()
            }
            value => value.and_then(Value::as_u32).into_iter().collect(),
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
    )
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

fn check_heads(metadata: &Metadata<'_>) -> Check {
    if !FAMILIES.contains(&metadata.architecture) {
        return Ok(());
    }
    let n_heads = metadata.counts("attention.head_count");
    let n_heads_kv = match metadata.counts("attention.head_count_kv") {
        counts if counts.is_empty() => n_heads.clone(),
        counts => counts,
    };
    for (layer, &n_kv) in n_heads_kv.iter().enumerate() {
        let n_head = n_heads.get(layer).or(n_heads.first()).copied();
        let n_head = n_head.unwrap_or(0);
        let is_absent = n_kv == 0 && metadata.architecture == "lfm2";
        require(
            is_absent || n_head > 0 && n_kv > 0 && n_head % n_kv == 0,
            || format!("its {n_head} heads of attention cannot share {n_kv} heads of keys"),
        )?;
    }
    let n_head = n_heads.first().copied().unwrap_or(1);
    let head = metadata.count("embedding_length") / n_head;
    let keys = metadata.count_or("attention.key_length", head);
    let values = metadata.count_or("attention.value_length", head);
    require(keys == values, || {
        format!("the keys of its heads have {keys} features, and their values {values}")
    })?;
    let rotated = metadata.count_or("rope.dimension_count", keys);
    let is_partial =
        ["gemma2", "gemma3", "gemma4", "lfm2", "phi3", "qwen35"].contains(&metadata.architecture);
    let fits = if is_partial {
        rotated <= keys
    } else {
        rotated == keys
    };
    require(fits && rotated > 0 && rotated.is_multiple_of(2), || {
        format!("RoPE cannot rotate {rotated} of a head's {keys} features in this family")
    })?;
    if !WHOLE_WIDTH.contains(&metadata.architecture) {
        return Ok(());
    }
    let width = metadata.count("embedding_length");
    require(width.is_multiple_of(n_head), || {
        format!("its width of {width} cannot be divided among {n_head} heads in this family")
    })?;
    require(keys == head, || {
        format!("its heads have {keys} features, and {head} in this family at its width")
    })
}

/// A window is for blocks that have one: llama.cpp ends the process where the file lists none. Gemma 2 and 4 always have a
/// window.
fn check_sliding(metadata: &Metadata<'_>) -> Check {
    let architecture = metadata.architecture;
    let Some(usual) = sliding_pattern(architecture) else {
        return Ok(());
    };
    let pattern = metadata.get("attention.sliding_window_pattern");
    let is_list = matches!(pattern, Some(Value::Array(_)));
    require(is_list || usual != SlidingPattern::Listed, || {
        "its attention.sliding_window_pattern is not a list".to_owned()
    })?;
    let key = "attention.sliding_window";
    let always_slides = ALWAYS_SLIDING.contains(&architecture);
    let has_window = match metadata.get(key) {
        Some(_) => metadata.count(key) > 0,
        None => always_slides,
    };
    require(has_window || !always_slides, || {
        "its sliding window has no tokens".to_owned()
    })?;
    if !has_window {
        return Ok(());
    }
    let n_layer = metadata.count("block_count") as usize;
    let layers = sliding_layers(metadata.model, architecture, n_layer);
    require(layers.contains(&true), || {
        "it has a sliding window, but no block with sliding attention".to_owned()
    })?;
    // The graph of OLMo has one length of heads for all blocks.
    let head = metadata.count("embedding_length") / metadata.count("attention.head_count").max(1);
    [
        "attention.key_length_swa",
        "attention.value_length_swa",
        "rope.dimension_count_swa",
    ]
    .into_iter()
    .filter(|_| architecture == "olmo2")
    .try_for_each(|key| {
        let length = metadata.count_or(key, head);
        require(length == head, || {
            format!("its {key} is {length}, and {head} in this family at its width")
        })
    })
}

fn sliding_pattern(architecture: &str) -> Option<SlidingPattern> {
    let family = SLIDING.iter().find(|it| it.0 == architecture);
    family.map(|&(_, pattern)| pattern)
}

/// For each of `n_layer` blocks, whether it has sliding attention: a file lists the blocks (those that it does not list have
/// full attention), or gives the number of blocks of which the last one has full attention, or its family has one. None has
/// it in other families.
pub fn sliding_layers(model: &Gguf, architecture: &str, n_layer: usize) -> Vec<bool> {
    let Some(usual) = sliding_pattern(architecture) else {
        return vec![false; n_layer];
    };
    let pattern = model.get(&format!("{architecture}.attention.sliding_window_pattern"));
    let mut layers = match pattern {
        Some(Value::Array(Array::Bool(layers))) => layers.clone(),
        Some(Value::Array(Array::U32(layers))) => layers.iter().map(|&it| it != 0).collect(),
        Some(Value::Array(Array::I32(layers))) => layers.iter().map(|&it| it != 0).collect(),
        number => match usual {
            // llama.cpp refuses a number of another type.
            SlidingPattern::FullEach(period) => {
                let n = number.and_then(Value::as_u32).unwrap_or(period) as usize;
                let is_sliding = |layer| n == 0 || layer % n < n - 1;
                (0..n_layer).map(is_sliding).collect()
            }
            SlidingPattern::Listed => Vec::new(),
        },
    };
    layers.resize(n_layer, false);
    layers
}

/// Refuses counts that are negative to llama.cpp, which counts with signed numbers of 32 bits, and a context of no tokens.
fn check_counts(metadata: &Metadata<'_>) -> Check {
    for (key, least) in [
        ("context_length", 1),
        ("rope.scaling.original_context_length", 0),
        ("attention.sliding_window", 0),
    ] {
        let most = i32::MAX as u32;
        for length in metadata.counts(key) {
            require((least..=most).contains(&length), || {
                format!("its {key} is {length}")
            })?;
        }
    }
    Ok(())
}

fn check_numbers(metadata: &Metadata<'_>) -> Check {
    if let Some(factor) = metadata
        .get("rope.scaling.attn_factor")
        .and_then(Value::as_f32)
    {
        require(factor <= MAX_ATTENTION_FACTOR, || {
            format!("its rope.scaling.attn_factor is {factor}, with which no score is a number")
        })?;
    }
    for key in ["rope.freq_base", "rope.freq_base_swa"] {
        if let Some(base) = metadata.get(key).and_then(Value::as_f32) {
            require(base > 0.0 && base.is_finite(), || {
                format!("its {key} is {base}")
            })?;
        }
    }
    for key in [
        "rope.scaling.factor",
        "rope.scale_linear",
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "rope.scaling.yarn_log_multiplier",
    ] {
        if let Some(factor) = metadata.get(key).and_then(Value::as_f32) {
            require(factor >= 0.0 && factor.is_finite(), || {
                format!("its {key} is {factor}")
            })?;
        }
    }
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

/// Factors and caps with which every logit would be infinite or not a number.
fn check_scales(metadata: &Metadata<'_>) -> Check {
    let divisors: &[&str] = match metadata.architecture {
        "granite" => &["logit_scale"],
        "gemma2" => &["attn_logit_softcapping", "final_logit_softcapping"],
        _ => &[],
    };
    for key in [
        "embedding_scale",
        "residual_scale",
        "attention.scale",
        "attention.temperature_scale",
        "logit_scale",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    ] {
        if let Some(value) = metadata.get(key).and_then(Value::as_f32) {
            let is_divisor = divisors.contains(&key);
            require(value.is_finite() && !(is_divisor && value == 0.0), || {
                format!("its {key} is {value}")
            })?;
        }
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

/// Refuses vocabularies whose tokenizers would end the process, or not end: of a kind that no model of the family has, and
/// tokens that stand for a byte and do not name it.
fn check_vocabulary(metadata: &Metadata<'_>) -> Check {
    let model = metadata.model;
    let Some(kind) = model.get("tokenizer.ggml.model").and_then(Value::as_str) else {
        return Ok(());
    };
    let is_of_family = VOCABULARIES.contains(&kind) || !FAMILIES.contains(&metadata.architecture);
    require(
        is_of_family && !["none", "no_vocab"].contains(&kind),
        || {
            let architecture = metadata.architecture;
            format!(
                "its vocabulary is of the kind {kind:?}, which is none for texts in models of the family {architecture}"
            )
        },
    )?;
    let tokens = model.get("tokenizer.ggml.tokens");
    let types = model.get("tokenizer.ggml.token_type");
    let (Some(Value::Array(Array::String(tokens))), Some(Value::Array(Array::I32(types)))) =
        (tokens, types)
    else {
        return Ok(());
    };
    let names_byte = |token: &str| {
        let digits = token
            .strip_prefix("<0x")
            .and_then(|it| it.strip_suffix('>'));
        digits.is_some_and(|it| it.len() == 2 && u8::from_str_radix(it, 16).is_ok())
    };
    let is_unsound = |token: &&String| {
        WITHOUT_BYTES.contains(&kind) || WITH_BYTES.contains(&kind) && !names_byte(token)
    };
    let bytes = tokens.iter().zip(types).filter(|it| *it.1 == BYTE);
    match bytes.map(|it| it.0).find(is_unsound) {
        Some(token) => Err(format!(
            "its token {token:?} is to stand for a byte, which it does not name, or cannot in a vocabulary of the kind {kind:?}"
        )),
        None => Ok(()),
    }
}
