//! The tiny models of families with other mixers than attention: one block of each kind.

use cope_convert::gguf::{Array, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{LINEARS, N_EMBD, N_HEAD_KV, gemma4};

/// The linear layers of all mixers, of the feed-forward layers and of blocks' own inputs, by their GGUF names.
pub const ALL_LINEARS: [&str; 16] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "attn_qkv",
    "attn_gate",
    "ssm_alpha",
    "ssm_beta",
    "ssm_out",
    "shortconv.in_proj",
    "shortconv.out_proj",
    "inp_gate",
    "proj",
];

/// Key heads of the delta net.
const N_K: usize = 2;
/// Value heads of the delta net, if a model does not say.
pub const N_V: usize = 4;
/// Features of a head of the delta net.
const DIM: usize = 16;
/// Features of the convolution's input.
fn channels(n_v: usize) -> usize {
    (2 * N_K + n_v) * DIM
}

/// Taps of the delta net's convolution.
const TAPS: usize = 4;
/// Taps of the short convolution.
const SHORT_TAPS: usize = 3;

/// Whether a block has attention: the second of two.
fn has_attention(architecture: &str, layer: usize) -> bool {
    !["lfm2", "qwen35"].contains(&architecture) || layer % 2 == 1
}

/// Whether a block has a linear layer of its family, by its GGUF name; `large` as [`gemma4::Size::is_large`].
pub fn has(architecture: &str, layer: usize, linear: &str, large: bool) -> bool {
    let (of_attention, feed_forward) = LINEARS.split_at(4);
    let mixer: &[&str] = match architecture {
        "lfm2" | "qwen35" if has_attention(architecture, layer) => of_attention,
        "lfm2" => &["shortconv.in_proj", "shortconv.out_proj"],
        "qwen35" => &["attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta", "ssm_out"],
        "gemma4" => return gemma4::has(large, layer, linear),
        _ => return true,
    };
    mixer.contains(&linear) || feed_forward.contains(&linear)
}

/// Input and output width of a linear layer, if it is one of these mixers'.
pub fn dimensions(architecture: &str, linear: &str, n_v: usize) -> Option<(usize, usize)> {
    Some(match linear {
        "attn_q" if architecture == "qwen35" => (N_EMBD, 2 * N_EMBD),
        "attn_qkv" if architecture == "qwen35" => (N_EMBD, channels(n_v)),
        "attn_gate" => (N_EMBD, n_v * DIM),
        "ssm_alpha" | "ssm_beta" => (N_EMBD, n_v),
        "ssm_out" => (n_v * DIM, N_EMBD),
        "shortconv.in_proj" => (N_EMBD, 3 * N_EMBD),
        "shortconv.out_proj" => (N_EMBD, N_EMBD),
        _ => return None,
    })
}

/// The names of the norms of a block, besides those of heads; `None` for those of most families.
pub fn norms(architecture: &str) -> Option<&'static [&'static str]> {
    match architecture {
        "qwen35" => Some(&["attn_norm", "post_attention_norm"]),
        // With random weights, see `gemma4::vectors`.
        "gemma4" => Some(&[]),
        _ => None,
    }
}

/// The norms, kernels and vectors of a block's mixer: name, ggml shape and values.
pub fn mixer_tensors(
    architecture: &str,
    layer: usize,
    n_v: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let channels = channels(n_v);
    let shapes: &[(&str, &[usize])] = match architecture {
        "lfm2" | "qwen35" if has_attention(architecture, layer) => {
            &[("attn_q_norm.weight", &[16]), ("attn_k_norm.weight", &[16])]
        }
        "lfm2" => &[("shortconv.conv.weight", &[SHORT_TAPS, N_EMBD])],
        "qwen35" => &[
            ("ssm_conv1d.weight", &[TAPS, channels]),
            ("ssm_norm.weight", &[DIM]),
            ("ssm_a", &[n_v]),
            ("ssm_dt.bias", &[n_v]),
        ],
        _ => &[],
    };
    let mut tensor = |(name, shape): &(&str, &[usize])| {
        let n: usize = shape.iter().product();
        let range = match *name {
            "ssm_a" => -1.5..-0.05,
            "ssm_dt.bias" => -1.0..1.0,
            _ if shape.len() == 2 => -1.0..1.0,
            _ => 0.5..1.5,
        };
        let values = (0..n).map(|_| rng.random_range(range.clone())).collect();
        let shape = shape.iter().map(|&n| n as u64).collect();
        (format!("blk.{layer}.{name}"), shape, values)
    };
    shapes.iter().map(&mut tensor).collect()
}

/// The tensors of a block that predicts further tokens, and that llama.cpp's ordinary passes leave out: name, ggml shape and
/// values.
pub fn further_tensors(layer: usize, rng: &mut ChaCha8Rng) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let linears = LINEARS.map(|name| {
        let of_mixer = dimensions("qwen35", name, N_V);
        let (n_in, n_out) = of_mixer.unwrap_or_else(|| super::dimensions("qwen35", name));
        (name, vec![n_in, n_out])
    });
    let others = [
        ("attn_norm", vec![N_EMBD]),
        ("post_attention_norm", vec![N_EMBD]),
        ("attn_q_norm", vec![16]),
        ("attn_k_norm", vec![16]),
        ("nextn.eh_proj", vec![2 * N_EMBD, N_EMBD]),
        ("nextn.enorm", vec![N_EMBD]),
        ("nextn.hnorm", vec![N_EMBD]),
    ];
    let tensor = |(name, shape): (&str, Vec<usize>)| {
        let n = shape.iter().product();
        let values = (0..n).map(|_| rng.random_range(-0.5..0.5)).collect();
        let shape = shape.into_iter().map(|n| n as u64).collect();
        (format!("blk.{layer}.{name}.weight"), shape, values)
    };
    linears.into_iter().chain(others).map(tensor).collect()
}

/// The settings of the mixers in a model of `n_layer` blocks.
pub fn settings(architecture: &str, n_layer: usize, n_v: usize) -> Vec<(&'static str, Value)> {
    let count = |n: usize| Value::U32(n as u32);
    match architecture {
        "lfm2" => {
            let heads = |layer| i32::from(has_attention("lfm2", layer)) * N_HEAD_KV as i32;
            let heads = Array::I32((0..n_layer).map(heads).collect());
            vec![
                ("attention.head_count_kv", Value::Array(heads)),
                ("shortconv.l_cache", count(SHORT_TAPS)),
            ]
        }
        "qwen35" => vec![
            ("full_attention_interval", count(2)),
            ("rope.dimension_count", count(8)),
            (
                "rope.dimension_sections",
                Value::Array(Array::I32(vec![2, 1, 1, 0])),
            ),
            ("ssm.conv_kernel", count(TAPS)),
            ("ssm.group_count", count(N_K)),
            ("ssm.time_step_rank", count(n_v)),
            ("ssm.state_size", count(DIM)),
            ("ssm.inner_size", count(n_v * DIM)),
        ],
        _ => Vec::new(),
    }
}
