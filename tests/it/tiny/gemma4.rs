//! The tiny models of Gemma 4. One is like E2B: blocks with sliding and with full attention in turn, whose heads differ in
//! length, of which the last two use the keys and values of the first two and have wider feed-forward layers; each block has
//! an input of its own and a factor of its result. The other is like the larger models: full blocks have fewer heads of keys,
//! and make their values of the keys.

use cope_convert::gguf::{Array, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{N_EMBD, N_FF, N_HEAD, N_HEAD_KV, Tensor, WINDOW, tensor_name};

/// Features of a head of blocks with full attention.
pub const FULL_DIM: usize = 32;
/// Features of a head of blocks with sliding attention.
const SLIDING_DIM: usize = 16;
/// Features of a block's own input.
const N_INPUT: usize = 16;
/// Number of blocks.
const N_LAYER: usize = 4;

/// Which models a tiny one is like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// E2B and E4B.
    Small,
    /// The larger ones.
    Large,
}

impl Size {
    pub fn is_large(self) -> bool {
        self == Self::Large
    }
}

/// Whether a block has sliding attention. The order of the large model is one that no published model has.
fn slides(large: bool, layer: usize) -> bool {
    if large {
        [false, true, true, false][layer % N_LAYER]
    } else {
        layer.is_multiple_of(2)
    }
}

/// Whether a block uses the keys of an earlier one.
fn shares(large: bool, layer: usize) -> bool {
    !large && layer >= 2
}

/// Heads of keys.
fn n_head_kv(large: bool, layer: usize) -> usize {
    if large && !slides(large, layer) {
        1
    } else {
        N_HEAD_KV
    }
}

/// Width of a block's feed-forward layers.
fn n_ff(large: bool, layer: usize) -> usize {
    if shares(large, layer) { 2 * N_FF } else { N_FF }
}

/// Whether a block has a linear layer, by its GGUF name.
pub fn has(large: bool, layer: usize, linear: &str) -> bool {
    match linear {
        "attn_q" | "attn_output" | "ffn_gate" | "ffn_up" | "ffn_down" => true,
        "attn_k" => !shares(large, layer),
        "attn_v" => !shares(large, layer) && (!large || slides(large, layer)),
        "inp_gate" | "proj" => !large,
        _ => false,
    }
}

/// Input and output width of a linear layer.
pub fn dimensions(large: bool, layer: usize, linear: &str) -> (usize, usize) {
    let head_dim = if slides(large, layer) {
        SLIDING_DIM
    } else {
        FULL_DIM
    };
    let n_ff = n_ff(large, layer);
    match linear {
        "attn_q" => (N_EMBD, N_HEAD * head_dim),
        "attn_k" | "attn_v" => (N_EMBD, n_head_kv(large, layer) * head_dim),
        "attn_output" => (N_HEAD * head_dim, N_EMBD),
        "ffn_gate" | "ffn_up" => (N_EMBD, n_ff),
        "ffn_down" => (n_ff, N_EMBD),
        "inp_gate" => (N_EMBD, N_INPUT),
        "proj" => (N_INPUT, N_EMBD),
        other => panic!("the tiny model has no linear layer {other}"),
    }
}

/// The matrices outside the blocks that make the blocks' own inputs: name, input and output width.
pub fn tables(large: bool, n_vocab: usize) -> Vec<(&'static str, usize, usize)> {
    if large {
        return Vec::new();
    }
    vec![
        ("per_layer_token_embd.weight", N_LAYER * N_INPUT, n_vocab),
        ("per_layer_model_proj.weight", N_EMBD, N_LAYER * N_INPUT),
    ]
}

/// The norms, factors and frequencies.
pub fn vectors(large: bool, n_layer: usize, rng: &mut ChaCha8Rng) -> Vec<Tensor> {
    let mut vector = |name: String, len: usize| {
        // The scores of attention have no divisor, so their size is that of these norms.
        let is_of_heads = name.contains("_q_norm") || name.contains("_k_norm");
        let range = if is_of_heads { 0.2..0.6 } else { 0.5..1.5 };
        let values = (0..len).map(|_| rng.random_range(range.clone())).collect();
        (name, vec![len as u64], values)
    };
    let mut vectors = Vec::new();
    for layer in 0..n_layer {
        let head_dim = dimensions(large, layer, "attn_q").1 / N_HEAD;
        let mut names = vec![
            ("attn_norm", N_EMBD),
            ("post_attention_norm", N_EMBD),
            ("ffn_norm", N_EMBD),
            ("post_ffw_norm", N_EMBD),
            ("attn_q_norm", head_dim),
        ];
        if !shares(large, layer) {
            names.push(("attn_k_norm", head_dim));
        }
        if !large {
            names.extend([("post_norm", N_EMBD), ("layer_output_scale", 1)]);
        }
        let of_block = names.into_iter();
        vectors.extend(of_block.map(|(name, len)| vector(tensor_name(layer, name), len)));
    }
    if !large {
        vectors.push(vector("per_layer_proj_norm.weight".into(), N_INPUT));
    }
    // A quarter of the pairs is rotated.
    let divisor = |pair: usize| if pair < FULL_DIM / 8 { 1.0 } else { 1e30 };
    let divisors = (0..FULL_DIM / 2).map(divisor).collect();
    let name = "rope_freqs.weight".to_owned();
    vectors.push((name, vec![FULL_DIM as u64 / 2], divisors));
    vectors
}

/// The settings, without the prefix of their keys.
pub fn settings(large: bool) -> Vec<(&'static str, Value)> {
    let count = |n: usize| Value::U32(n as u32);
    let list = |of: fn(bool, usize) -> usize| {
        let counts = (0..N_LAYER).map(|layer| of(large, layer) as i32);
        Value::Array(Array::I32(counts.collect()))
    };
    let pattern = (0..N_LAYER).map(|layer| slides(large, layer)).collect();
    let mut settings = vec![
        ("attention.key_length", count(FULL_DIM)),
        ("attention.value_length", count(FULL_DIM)),
        ("attention.key_length_swa", count(SLIDING_DIM)),
        ("attention.value_length_swa", count(SLIDING_DIM)),
        ("rope.dimension_count_swa", count(SLIDING_DIM)),
        ("rope.freq_base_swa", Value::F32(1_000.0)),
        ("attention.sliding_window", Value::U32(WINDOW)),
        (
            "attention.sliding_window_pattern",
            Value::Array(Array::Bool(pattern)),
        ),
    ];
    if large {
        // Without a soft cap of the logits in the file, it is 30.
        settings.extend([
            ("attention.head_count_kv", list(n_head_kv)),
            ("embedding_length_per_layer_input", count(0)),
        ]);
    } else {
        settings.extend([
            ("attention.shared_kv_layers", count(2)),
            ("embedding_length_per_layer_input", count(N_INPUT)),
            ("feed_forward_length", list(n_ff)),
            ("final_logit_softcapping", Value::F32(10.0)),
        ]);
    }
    settings
}
