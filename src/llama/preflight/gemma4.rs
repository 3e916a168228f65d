//! Checks of Gemma 4's settings, on which llama.cpp would assert or read beyond a buffer, or use other keys and values than the
//! model was trained with. Its blocks with sliding attention have heads of a length of their own, and its last blocks use
//! the keys and values of earlier ones.

use super::{Check, Metadata, require, sliding_layers};

/// Refuses settings of a Gemma 4 that llama.cpp does not check.
pub(super) fn check(metadata: &Metadata<'_>) -> Check {
    if metadata.architecture != "gemma4" {
        return Ok(());
    }
    check_sliding_heads(metadata)?;
    check_shared_keys(metadata)
}

/// Whether a tensor is not one of the blocks' own inputs, or the blocks have such inputs.
pub(super) fn is_of_inputs(metadata: &Metadata<'_>, name: &str) -> bool {
    let parts = ["per_layer_", ".inp_gate.", ".proj.", ".post_norm."];
    metadata.architecture != "gemma4"
        || metadata.count("embedding_length_per_layer_input") > 0
        || !parts.iter().any(|part| name.contains(part))
}

fn check_sliding_heads(metadata: &Metadata<'_>) -> Check {
    let [keys, values] =
        ["attention.key_length_swa", "attention.value_length_swa"].map(|key| metadata.count(key));
    require(keys == values, || {
        format!(
            "the keys of its heads with sliding attention have {keys} features, and their values {values}"
        )
    })?;
    // Without a number of its own, llama.cpp rotates as many features as in blocks with full attention.
    let head = metadata.count("embedding_length") / metadata.count("attention.head_count").max(1);
    let full = metadata.count_or("attention.key_length", head);
    let full = metadata.count_or("rope.dimension_count", full);
    let rotated = metadata.count_or("rope.dimension_count_swa", full);
    require(
        (1..=keys).contains(&rotated) && rotated.is_multiple_of(2),
        || format!("RoPE cannot rotate {rotated} of a head's {keys} features in this family"),
    )
}

/// The blocks that share keys and values use those of the last block before them, or of the one before that where attention
/// slides. llama.cpp asserts that the cache has these; in another order than that of all models it would use those of
/// another block than transformers.
fn check_shared_keys(metadata: &Metadata<'_>) -> Check {
    let n_layer = metadata.count("block_count") as usize;
    let n_shared = metadata.count("attention.shared_kv_layers") as usize;
    if n_shared == 0 {
        // llama.cpp asserts that there are two blocks with keys of their own, shared or not.
        return require(n_layer >= 2, || {
            format!("it has {n_layer} blocks, and llama.cpp needs 2 or more in this family")
        });
    }
    let layers = sliding_layers(metadata.model, metadata.architecture, n_layer);
    let first = n_layer.saturating_sub(n_shared);
    require(
        first >= 2 && layers[first - 2] && !layers[first - 1],
        || {
            format!(
                "its last {n_shared} of {n_layer} blocks share keys and values, and the two blocks before them have not sliding attention and then full attention"
            )
        },
    )?;
    let counts = metadata.counts("attention.head_count_kv");
    let heads_of = |layer: usize| counts.get(layer).or(counts.first());
    let differs = |layer: &usize| {
        let source = first - if layers[*layer] { 2 } else { 1 };
        heads_of(*layer) != heads_of(source)
    };
    match (first..n_layer).find(differs) {
        Some(layer) => Err(format!(
            "its block {layer} uses the keys of a block with another number of key heads"
        )),
        None => Ok(()),
    }
}
