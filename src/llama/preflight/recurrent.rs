//! The blocks with another mixer than attention, and checks of their settings, on which llama.cpp would divide by zero, assert,
//! or run a graph without a tensor.
//!
//! | family | blocks without attention | their settings |
//! |---|---|---|
//! | `lfm2` | those without heads of keys | `shortconv.l_cache` |
//! | `qwen35` | those that `attention.recurrent_layers` lists; without a list all but each `full_attention_interval`th | `ssm.*` |

use cope_convert::gguf::{Array, Gguf, Value};

use super::{Check, Metadata, require};

/// The default of `full_attention_interval`.
const INTERVAL: u32 = 4;

/// The matrices of a block with a gated delta net that llama.cpp takes to be optional, and whose graph needs them.
const NEEDED: [&str; 2] = ["attn_qkv.weight", "attn_gate.weight"];

/// For each of `n_blocks` blocks, whether it has another mixer than attention. Blocks that predict further tokens have
/// attention.
pub fn recurrent_layers(model: &Gguf, architecture: &str, n_blocks: usize) -> Vec<bool> {
    let metadata = Metadata {
        model,
        architecture,
    };
    let mut layers: Vec<bool> = match architecture {
        "lfm2" => {
            let counts = metadata.counts("attention.head_count_kv");
            match metadata.get("attention.head_count_kv") {
                Some(Value::Array(_)) => counts.into_iter().map(|count| count == 0).collect(),
                _ => vec![counts == [0]; n_blocks],
            }
        }
        "qwen35" => match metadata.get("attention.recurrent_layers") {
            Some(Value::Array(Array::Bool(layers))) => layers.clone(),
            Some(_) => metadata
                .counts("attention.recurrent_layers")
                .into_iter()
                .map(|it| it != 0)
                .collect(),
            None => {
                let interval = metadata
                    .count_or("full_attention_interval", INTERVAL)
                    .max(1);
                let further = metadata.count("nextn_predict_layers") as usize;
                let is_recurrent = |layer: usize| {
                    layer + further < n_blocks && !(layer + 1).is_multiple_of(interval as usize)
                };
                (0..n_blocks).map(is_recurrent).collect()
            }
        },
        _ => Vec::new(),
    };
    layers.resize(n_blocks, false);
    layers
}

/// Whether a tensor of a block, without the block's prefix, is one of the block's own mixer, or of none.
pub(super) fn is_of_mixer(metadata: &Metadata<'_>, block: u32, name: &str) -> bool {
    let has_prefix = |prefixes: &[&str]| prefixes.iter().any(|it| name.starts_with(it));
    let (of_attention, of_other) = match metadata.architecture {
        "lfm2" => (
            name.starts_with("attn_") && !name.starts_with("attn_norm"),
            name.starts_with("shortconv."),
        ),
        "qwen35" => (
            has_prefix(&["attn_q.", "attn_k.", "attn_v.", "attn_output."])
                || has_prefix(&["attn_q_norm", "attn_k_norm", "attn_qkv.bias"]),
            has_prefix(&["ssm_", "attn_gate."]),
        ),
        _ => return true,
    };
    let n_blocks = metadata.count("block_count") as usize;
    let layers = recurrent_layers(metadata.model, metadata.architecture, n_blocks);
    if layers.get(block as usize) == Some(&true) {
        !of_attention
    } else {
        !of_other
    }
}

/// Refuses settings of the other mixers that llama.cpp does not check.
pub(super) fn check(metadata: &Metadata<'_>) -> Check {
    match metadata.architecture {
        "lfm2" => {
            let taps = metadata.count("shortconv.l_cache");
            require(taps >= 2, || {
                format!("its short convolutions have {taps} taps, and llama.cpp needs 2 or more")
            })?;
        }
        "qwen35" => check_delta_net(metadata)?,
        _ => return Ok(()),
    }
    let n_blocks = metadata.count("block_count");
    let further = if metadata.architecture == "qwen35" {
        metadata.count("nextn_predict_layers")
    } else {
        0
    };
    require(further < n_blocks, || {
        format!("all its {n_blocks} blocks are for further tokens")
    })?;
    let layers = recurrent_layers(metadata.model, metadata.architecture, n_blocks as usize);
    let trunk = &layers[..(n_blocks - further) as usize];
    require(trunk.contains(&true) && trunk.contains(&false), || {
        "it needs blocks with attention and blocks without".to_owned()
    })?;
    if metadata.architecture == "qwen35" {
        check_needed(metadata, trunk)?;
    }
    Ok(())
}

fn check_delta_net(metadata: &Metadata<'_>) -> Check {
    let [n_k, n_v, dim, inner, taps] = [
        "ssm.group_count",
        "ssm.time_step_rank",
        "ssm.state_size",
        "ssm.inner_size",
        "ssm.conv_kernel",
    ]
    .map(|key| u64::from(metadata.count(key)));
    require(n_k > 0 && n_v > 0 && n_v % n_k == 0, || {
        format!("its {n_v} value heads cannot share {n_k} key heads")
    })?;
    require(dim > 0 && inner == n_v * dim, || {
        format!("its {n_v} value heads have {dim} features each, and {inner} together")
    })?;
    require(taps >= 2, || {
        format!("its convolutions have {taps} taps, and llama.cpp needs 2 or more")
    })?;
    let layers = metadata.get("attention.recurrent_layers");
    require(
        !layers.is_some_and(|it| !matches!(it, Value::Array(_))),
        || "its attention.recurrent_layers is not a list".to_owned(),
    )?;
    let interval = metadata.count_or("full_attention_interval", INTERVAL);
    require(interval > 0, || {
        "its full_attention_interval is 0".to_owned()
    })?;
    let sections = metadata.counts("rope.dimension_sections");
    let all: u64 = sections.iter().map(|&it| u64::from(it)).sum();
    let head = metadata.count("embedding_length") / metadata.count("attention.head_count").max(1);
    let head = metadata.count_or("attention.key_length", head);
    let has_one = sections.iter().take(3).any(|&it| it > 0);
    require(sections.len() == 4 && has_one && all <= head.into(), || {
        format!("its rope.dimension_sections are {sections:?}")
    })
}

/// Refuses a file without a tensor that the graph needs.
fn check_needed(metadata: &Metadata<'_>, trunk: &[bool]) -> Check {
    let of_first = std::iter::once("blk.0.attn_norm.weight".to_owned());
    let recurrent = (trunk.iter().enumerate()).filter(|(_, is_recurrent)| **is_recurrent);
    let of_recurrent =
        recurrent.flat_map(|(layer, _)| NEEDED.map(|name| format!("blk.{layer}.{name}")));
    let mut names = of_first.chain(of_recurrent);
    let missing = names.find(|name| metadata.model.tensor(name).is_none());
    match missing {
        Some(name) => Err(format!("it lacks the tensor {name}")),
        None => Ok(()),
    }
}
