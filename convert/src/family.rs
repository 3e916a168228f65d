//! The differences between transformers and llama.cpp in a model family: the names of weights, and the order of rows.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::gguf::{Array, Gguf, TensorInfo, Value};
use crate::value_heads::{Along, ValueHeads};

/// The weights of a layer that can be adapted: the name of each module in transformers, and of its tensor in GGUF
/// files.
const LAYER: &[(&str, &str)] = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The same for families in which q, k and v are one matrix, and gate and up are one.
const FUSED_LAYER: &[(&str, &str)] = &[
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The same for a family with short convolutions.
const LFM2_LAYER: &[(&str, &str)] = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.out_proj", "attn_output"),
    ("conv.in_proj", "shortconv.in_proj"),
    ("conv.out_proj", "shortconv.out_proj"),
    ("feed_forward.w1", "ffn_gate"),
    ("feed_forward.w3", "ffn_up"),
    ("feed_forward.w2", "ffn_down"),
];

/// The weights that a layer has beside those of [`LAYER`], where it has a gated delta net.
const DELTA_NET: &[(&str, &str)] = &[
    ("linear_attn.in_proj_qkv", "attn_qkv"),
    ("linear_attn.in_proj_z", "attn_gate"),
    ("linear_attn.in_proj_a", "ssm_alpha"),
    ("linear_attn.in_proj_b", "ssm_beta"),
    ("linear_attn.out_proj", "ssm_out"),
];

/// The weights that a layer has beside those of [`LAYER`], where it has an input of its own beside the residual stream.
const LAYER_INPUT: &[(&str, &str)] = &[
    ("per_layer_input_gate", "inp_gate"),
    ("per_layer_projection", "proj"),
];

/// The module that makes the inputs of all layers in that family. llama.cpp loads an adapter of it and does not apply it.
const UNAPPLIED: &str = "per_layer_model_projection";

/// The `general.architecture` of each family that is known. The `mistral` of transformers is `llama` in llama.cpp.
const ARCHITECTURES: [&str; 13] = [
    "llama", "qwen2", "qwen3", "qwen35", "gemma2", "gemma3", "gemma4", "granite", "lfm2",
    "mistral3", "olmo2", "phi3", "smollm3",
];

/// The tensor of the head.
pub(crate) const HEAD: &str = "output.weight";

/// The module of the head.
const HEAD_MODULE: &str = "lm_head";

/// The modules that hold the layers, or a language model within a larger model. Which of them there are, and in which
/// order, depends on the class that the model was loaded as.
const WRAPPERS: [&str; 3] = ["model.", "language_model.", "text_model."];

/// The end of a module that wraps a linear layer to limit its range.
const INNER: &str = ".linear";

/// The tensor in which some files hold q, k and v as one, and its parts.
const QKV: (&str, [&str; 3]) = ("attn_qkv", ["attn_q", "attn_k", "attn_v"]);

/// The families whose rows of q and k are in another order in GGUF files than in transformers.
const MOVED_ROWS: [&str; 4] = ["llama", "granite", "mistral3", "smollm3"];

/// The family whose layers have the names of [`FUSED_LAYER`].
const FUSED: &str = "phi3";

/// The family with short convolutions.
const LFM2: &str = "lfm2";

/// The family with gated delta nets.
const QWEN35: &str = "qwen35";

/// The family whose layers have inputs of their own.
const GEMMA4: &str = "gemma4";

/// The facts about a base on which names and the order of rows depend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    /// `general.architecture`.
    pub architecture: String,
    /// The number of heads of queries.
    n_head: u32,
    /// The number of heads of keys and values: of all layers, or of each.
    n_head_kv: Vec<u32>,
    /// The number of key heads and of value heads of delta nets, and the features of a head, where there are any.
    delta_heads: Option<[u32; 3]>,
}

impl Family {
    /// Reads the family of `base`.
    ///
    /// # Errors
    ///
    /// The family is not known, or the file does not give the number of heads.
    pub fn read(base: &Gguf) -> Result<Self> {
        base.require_model()?;
        let architecture = base.architecture()?;
        if !ARCHITECTURES.contains(&architecture) {
            return Err(Error::Family {
                base: base.path.clone(),
                architecture: architecture.to_owned(),
                known: ARCHITECTURES.join(", "),
            });
        }
        let n_head = base.u32(&format!("{architecture}.attention.head_count"))?;
        let n_head_kv = key_heads(base, architecture)?.unwrap_or_else(|| vec![n_head]);
        let has_delta_nets = architecture == QWEN35;
        let delta_heads = has_delta_nets.then(|| delta_heads(base)).transpose()?;
        Ok(Self {
            architecture: architecture.to_owned(),
            n_head,
            n_head_kv,
            delta_heads,
        })
    }

    /// Whether llama.cpp loads an adapter of this module and does not apply it.
    pub fn is_unapplied(&self, module: &str) -> bool {
        self.architecture == GEMMA4 && split(module) == Some((None, UNAPPLIED))
    }

    /// The tensor of a module such as `model.layers.0.self_attn.q_proj`; `None` if the module cannot be adapted.
    pub fn tensor(&self, module: &str) -> Option<String> {
        let (layer, module) = match split(module)? {
            (None, HEAD_MODULE) => return Some(HEAD.to_owned()),
            (None, _) => return None,
            (Some(layer), module) => (layer, module),
        };
        let (_, tensor) = self.layer().find(|(name, _)| *name == module)?;
        Some(format!("blk.{layer}.{tensor}.weight"))
    }

    /// Whether a module is a part of a matrix that this family has as a whole.
    pub fn is_part(&self, module: &str) -> bool {
        split(module).is_some_and(|(layer, module)| {
            let is_module = |(name, _): &(&str, &str)| *name == module;
            let is_fused = self.architecture == FUSED && layer.is_some();
            is_fused && LAYER.iter().any(is_module) && !self.layer().any(is_module)
        })
    }

    /// The tensors of the layers that the tensor `fused` holds, with their rows among its `n_out`, where transformers has a
    /// module for each of them; `None` for a tensor that is one module.
    pub fn parts(&self, fused: &str, n_out: usize) -> Option<[(String, Range<usize>); 3]> {
        let (name, parts) = QKV;
        let layer = fused.strip_suffix(".weight")?.strip_suffix(name)?;
        if self.layer().any(|(_, tensor)| *tensor == name) {
            return None;
        }
        let [n_head, n_head_kv] = self.heads(fused)?;
        let n_heads = [n_head, n_head_kv, n_head_kv];
        let d = n_out.checked_div(n_heads.iter().sum())?;
        let mut first = 0;
        let mut index = 0..;
        Some(parts.map(|part| {
            let end = first + index.next().map_or(0, |index: usize| n_heads[index]) * d;
            let rows = std::mem::replace(&mut first, end)..end;
            (format!("{layer}{part}.weight"), rows)
        }))
    }

    /// The module of a tensor such as `blk.0.attn_q.weight`; `None` if the tensor cannot be adapted.
    pub fn module(&self, tensor: &str) -> Option<String> {
        if tensor == HEAD {
            return Some(HEAD_MODULE.to_owned());
        }
        let rest = tensor.strip_prefix("blk.")?.strip_suffix(".weight")?;
        let (layer, tensor) = rest.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        let (module, _) = self.layer().find(|(_, name)| *name == tensor)?;
        Some(format!("model.layers.{layer}.{module}"))
    }

    fn layer(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let (layer, more) = match self.architecture.as_str() {
            FUSED => (FUSED_LAYER, &[][..]),
            LFM2 => (LFM2_LAYER, &[][..]),
            QWEN35 => (LAYER, DELTA_NET),
            GEMMA4 => (LAYER, LAYER_INPUT),
            _ => (LAYER, &[][..]),
        };
        layer.iter().chain(more)
    }

    /// The number of heads within which a tensor's rows are in another order in GGUF files; `None` if the order is the
    /// same.
    ///
    /// Rotary embeddings rotate pairs of rows. In transformers a pair is a row of the head's first half and the row of
    /// the second half at the same place; in llama.cpp it is two neighbours, and the files of some families are ordered
    /// for that.
    pub fn moved_heads(&self, tensor: &str) -> Option<usize> {
        if !MOVED_ROWS.contains(&self.architecture.as_str()) {
            return None;
        }
        let [n_head, n_head_kv] = self.heads(tensor)?;
        if tensor.ends_with(".attn_q.weight") {
            Some(n_head)
        } else if tensor.ends_with(".attn_k.weight") {
            Some(n_head_kv)
        } else {
            None
        }
    }

    /// The number of heads of queries, and of keys and values, in the layer of a tensor such as `blk.0.attn_q.weight`.
    fn heads(&self, tensor: &str) -> Option<[usize; 2]> {
        let n_head_kv = if let [of_all] = *self.n_head_kv {
            of_all
        } else {
            let (layer, _) = tensor.strip_prefix("blk.")?.split_once('.')?;
            *self.n_head_kv.get(layer.parse::<usize>().ok()?)?
        };
        Some([self.n_head as usize, n_head_kv as usize])
    }

    /// The value heads of a tensor, if they are in another order in GGUF files.
    pub fn value_heads(&self, tensor: &str) -> Option<ValueHeads> {
        let [n_k, n_v, dim] = self.delta_heads?.map(|n| n as usize);
        let (_, name) = tensor.strip_suffix(".weight")?.rsplit_once('.')?;
        let (along, first, dim) = match name {
            "attn_qkv" => (Along::Rows, 2 * n_k * dim, dim),
            "attn_gate" => (Along::Rows, 0, dim),
            "ssm_alpha" | "ssm_beta" => (Along::Rows, 0, 1),
            "ssm_out" => (Along::Columns, 0, dim),
            _ => return None,
        };
        let heads = ValueHeads {
            along,
            first,
            dim,
            n_k,
            n_v,
        };
        (n_v != n_k).then_some(heads)
    }
}

/// The number of heads of keys and values, of all layers or of each; `None` if the file does not give it.
fn key_heads(base: &Gguf, architecture: &str) -> Result<Option<Vec<u32>>> {
    let key = format!("{architecture}.attention.head_count_kv");
    Ok(match base.get(&key) {
        Some(Value::Array(Array::U32(counts))) => Some(counts.clone()),
        Some(Value::Array(Array::I32(counts))) => {
            Some(counts.iter().map(|&n| n.max(0).unsigned_abs()).collect())
        }
        Some(_) => Some(vec![base.u32(&key)?]),
        None => None,
    })
}

/// The number of key heads and of value heads of delta nets, and the features of a head.
fn delta_heads(base: &Gguf) -> Result<[u32; 3]> {
    let keys = ["ssm.group_count", "ssm.time_step_rank", "ssm.state_size"];
    let [n_k, n_v, dim] = keys.map(|key| base.u32(&format!("{QWEN35}.{key}")));
    let (n_k, n_v, dim) = (n_k?, n_v?, dim?);
    // No model has so many, and their products fit into any integer.
    let is_sound = [n_k, n_v, dim].iter().all(|n| (1..1 << 20).contains(n));
    if !is_sound || n_v % n_k != 0 {
        return Err(Error::Heads {
            base: base.path.clone(),
            n_k,
            n_v,
        });
    }
    Ok([n_k, n_v, dim])
}

/// The tensor of `base` of which the tensor `name`, which `base` lacks, is a part: files of some converters hold q, k and
/// v of a layer as one matrix. `None` if there is none.
#[must_use]
pub fn fused_tensor<'g>(base: &'g Gguf, name: &str) -> Option<&'g TensorInfo> {
    let (fused, parts) = QKV;
    let (layer, tensor) = name.strip_suffix(".weight")?.rsplit_once('.')?;
    let is_part = parts.contains(&tensor);
    base.tensor(&format!("{layer}.{fused}.weight"))
        .filter(|_| is_part)
}

/// The layer of a module, and its name within the layer; the name alone for a module outside the layers.
fn split(module: &str) -> Option<(Option<u32>, &str)> {
    let mut rest = module.strip_suffix(INNER).unwrap_or(module);
    while let Some(inner) = WRAPPERS.iter().find_map(|it| rest.strip_prefix(it)) {
        rest = inner;
    }
    let Some(rest) = rest.strip_prefix("layers.") else {
        return Some((None, rest));
    };
    let (text, module) = rest.split_once('.')?;
    let layer: u32 = text.parse().ok()?;
    // Another spelling of the number, such as 07, would be another module.
    (layer.to_string() == text).then_some((Some(layer), module))
}

/// Brings the rows of a matrix `[heads × d, cols]` from transformers' order into llama.cpp's: in each head, row
/// `j · d/2 + i` becomes row `2 i + j`, with `j` 0 or 1.
pub(crate) fn interleave(values: &[f32], cols: usize, heads: usize) -> Vec<f32> {
    move_rows(values, cols, heads, |d, row| row % 2 * (d / 2) + row / 2)
}

/// Brings the rows of a matrix from llama.cpp's order into transformers', the inverse of [`interleave`].
pub(crate) fn separate(values: &[f32], cols: usize, heads: usize) -> Vec<f32> {
    move_rows(values, cols, heads, |d, row| {
        row % (d / 2) * 2 + row / (d / 2)
    })
}

/// Moves rows within each head: row `row` of the result is row `from(d, row)` of the input, where `d` is the number of
/// rows of a head.
fn move_rows(
    values: &[f32],
    cols: usize,
    heads: usize,
    from: impl Fn(usize, usize) -> usize,
) -> Vec<f32> {
    let d = values.len() / cols / heads;
    let mut moved = Vec::with_capacity(values.len());
    for head in values.chunks_exact(d * cols) {
        for row in 0..d {
            moved.extend_from_slice(&head[from(d, row) * cols..][..cols]);
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(architecture: &str) -> Family {
        Family {
            architecture: architecture.into(),
            n_head: 4,
            n_head_kv: vec![2],
            delta_heads: (architecture == QWEN35).then_some([2, 4, 8]),
        }
    }

    #[test]
    fn names_go_both_ways() {
        for architecture in ARCHITECTURES {
            let family = family(architecture);
            for (module, tensor) in family.layer() {
                let module = format!("model.layers.17.{module}");
                let tensor = format!("blk.17.{tensor}.weight");
                assert_eq!(family.tensor(&module).as_ref(), Some(&tensor));
                assert_eq!(family.module(&tensor), Some(module));
            }
        }
        for q in [
            "model.language_model.layers.3.self_attn.q_proj",
            "language_model.model.layers.3.self_attn.q_proj",
            "language_model.layers.3.self_attn.q_proj",
            "model.text_model.layers.3.self_attn.q_proj",
            "layers.3.self_attn.q_proj",
            "model.layers.3.self_attn.q_proj.linear",
        ] {
            let tensor = family("gemma3").tensor(q);
            assert_eq!(tensor.as_deref(), Some("blk.3.attn_q.weight"), "{q}");
        }
        let head = family("gemma3").tensor("language_model.lm_head");
        assert_eq!(head.as_deref(), Some("output.weight"));
        let gate = family("qwen35").tensor("model.language_model.layers.1.linear_attn.in_proj_z");
        assert_eq!(gate.as_deref(), Some("blk.1.attn_gate.weight"));
        let w2 = family("lfm2").tensor("model.layers.1.feed_forward.w2");
        assert_eq!(w2.as_deref(), Some("blk.1.ffn_down.weight"));
        let gate = family("gemma4").tensor("model.language_model.layers.2.per_layer_input_gate");
        assert_eq!(gate.as_deref(), Some("blk.2.inp_gate.weight"));
        let unapplied = "model.language_model.per_layer_model_projection";
        assert!(
            family("gemma4").is_unapplied(unapplied) && !family("gemma3").is_unapplied(unapplied)
        );
        assert!(!family("gemma4").is_unapplied("model.layers.0.per_layer_model_projection"));
        assert!(!family("lfm2").is_part("model.layers.1.mlp.down_proj"));
        assert!(family("phi3").is_part("model.layers.0.self_attn.q_proj"));
        assert!(!family("phi3").is_part("model.layers.0.self_attn.o_proj"));
        assert!(!family("llama").is_part("model.layers.0.self_attn.q_proj"));
        for other in [
            "model.embed_tokens",
            "model.layers.x.self_attn.q_proj",
            "model.layers.03.self_attn.q_proj",
            "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj",
            "model.layers.0.self_attn.qkv_proj",
        ] {
            assert_eq!(family("llama").tensor(other), None, "{other}");
        }
    }

    #[test]
    fn value_heads_are_moved_in_delta_nets_alone() {
        let places = |architecture, name: &str| {
            let heads = family(architecture).value_heads(&format!("blk.3.{name}.weight"));
            heads.map(|it| (it.along, it.first, it.dim, it.n_places()))
        };
        for (name, expected) in [
            ("attn_qkv", Some((Along::Rows, 32, 8, 64))),
            ("attn_gate", Some((Along::Rows, 0, 8, 32))),
            ("ssm_beta", Some((Along::Rows, 0, 1, 4))),
            ("ssm_out", Some((Along::Columns, 0, 8, 32))),
            ("attn_v", None),
        ] {
            assert_eq!(places("qwen35", name), expected, "{name}");
            assert_eq!(places("phi3", name), None, "{name}");
        }
    }

    #[test]
    fn fused_layers_have_the_heads_of_their_own_layer() {
        let family = Family {
            n_head_kv: vec![2, 1],
            ..family("gemma4")
        };
        let rows = |layer: u32, n_out| {
            let parts = family.parts(&format!("blk.{layer}.attn_qkv.weight"), n_out);
            parts.map(|parts| parts.map(|(_, rows)| rows))
        };
        assert_eq!(rows(0, 64), Some([0..32, 32..48, 48..64]));
        assert_eq!(rows(1, 96), Some([0..64, 64..80, 80..96]));
        assert_eq!(rows(2, 64), None);
    }

    #[test]
    fn rows_are_moved_within_heads_and_back() {
        // Two heads of four rows of one column.
        let theirs = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        let moved = interleave(&theirs, 1, 2);
        assert_eq!(moved, [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0]);
        assert_eq!(separate(&moved, 1, 2), theirs);
        let wide: Vec<f32> = (0..2 * 6 * 5).map(|i| i as f32).collect();
        assert_eq!(separate(&interleave(&wide, 5, 2), 5, 2), wide);
        for architecture in ARCHITECTURES {
            let is_moved = ["llama", "granite", "mistral3", "smollm3"].contains(&architecture);
            let heads = |tensor| family(architecture).moved_heads(tensor);
            assert_eq!(heads("blk.0.attn_q.weight"), is_moved.then_some(4));
            assert_eq!(heads("blk.0.attn_k.weight"), is_moved.then_some(2));
            assert_eq!(heads("blk.0.attn_v.weight"), None);
        }
    }
}
