//! The tensors that the graphs of the known families take: their types and their place in the file, on which ggml would end
//! the process, and their names, by which a refusal of llama.cpp's is explained. llama.cpp itself checks every shape, and
//! that it uses every tensor of the file.
//!
//! | operation of the graph | tensors | types on the CPU |
//! |---|---|---|
//! | rows of a table | `token_embd.weight` | floating-point and quantised, except Q8_1 and Q8_K |
//! | product with a matrix | `output.weight` or the embedding, `attn_*.weight`, `ffn_*.weight` | the same |
//! | product with or sum of a vector | norms, biases, scales, `ssm_a`, `ssm_dt.bias` | F32 |
//! | convolution | `shortconv.conv.weight`, `ssm_conv1d.weight` | F32 |
//! | factors of RoPE's frequencies | `rope_freqs.weight`, `rope_factors_*.weight` | F32 |

use cope_convert::gguf::{GgmlType, TensorInfo, Value};
use cope_convert::{Adapter, fused_tensor};

use super::{Check, FAMILIES, Metadata, gemma4, recurrent, require};

/// Types of weights that ggml can neither multiply by nor take rows of on the CPU.
const NO_WEIGHTS: [GgmlType; 7] = [
    GgmlType::Q8_1,
    GgmlType::Q8_K,
    GgmlType::I8,
    GgmlType::I16,
    GgmlType::I32,
    GgmlType::I64,
    GgmlType::F64,
];

/// The alignment in bytes that ggml needs of a buffer, such as the part of a file that is mapped.
const ALIGNMENT: u64 = 32;

/// The matrices of every block.
const MATRICES: [&str; 8] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

/// The matrices that only blocks of some families have, by family.
const OF_MIXERS: [(&str, &[&str]); 3] = [
    ("gemma4", &["inp_gate", "proj"]),
    ("lfm2", &["shortconv.in_proj", "shortconv.out_proj"]),
    ("qwen35", &["attn_gate", "ssm_alpha", "ssm_beta", "ssm_out"]),
];

/// The kernels of convolutions.
const KERNELS: [&str; 2] = ["shortconv.conv.weight", "ssm_conv1d.weight"];

/// The matrices of a block with experts.
const EXPERTS: [&str; 7] = [
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
    "ffn_gate_shexp",
    "ffn_up_shexp",
    "ffn_down_shexp",
];

/// Refuses tensors that the operations of a known graph do not take, and data where no buffer can begin.
pub(super) fn check(metadata: &Metadata<'_>) -> Check {
    let tensors = &metadata.model.tensors;
    tensors.iter().try_for_each(check_place)?;
    check_queries(metadata)?;
    if metadata.architecture == "phi3" {
        let n_head = metadata.count("attention.head_count").max(1);
        check_factors(tensors, metadata.count("embedding_length") / n_head)?;
    }
    if FAMILIES.contains(&metadata.architecture) {
        tensors.iter().try_for_each(check_type)?;
        let check = |tensor| check_scale(tensors, tensor);
        tensors.iter().try_for_each(check)?;
    }
    Ok(())
}

/// Refuses a block of Phi-3 without queries, keys and values: llama.cpp takes them as one matrix or as three, and does not
/// miss them when it loads the file.
fn check_queries(metadata: &Metadata<'_>) -> Check {
    if metadata.architecture != "phi3" {
        return Ok(());
    }
    let has = |name: String| metadata.model.tensor(&name).is_some();
    (0..metadata.count("block_count")).try_for_each(|block| {
        let separate = ["attn_q", "attn_k", "attn_v"];
        let is_whole = has(format!("blk.{block}.attn_qkv.weight"))
            || separate
                .iter()
                .all(|it| has(format!("blk.{block}.{it}.weight")));
        require(is_whole, || {
            format!("its tensor blk.{block}.attn_qkv.weight is missing")
        })
    })
}

/// Refuses factors of the rotary frequencies at the end of a file where a part of each head, of `head` features, is rotated:
/// ggml reads a factor for every pair of features, and so beyond the factors.
fn check_factors(tensors: &[TensorInfo], head: u32) -> Check {
    let n_read = u64::from(head / 2);
    let is_factors = |it: &&TensorInfo| it.name.starts_with("rope_factors_");
    tensors.iter().filter(is_factors).try_for_each(|factors| {
        let same_file = tensors.iter().filter(|it| it.path == factors.path);
        let end = same_file.map(|it| it.offset + it.n_bytes).max();
        let is_inside = end >= Some(factors.offset + n_read * size_of::<f32>() as u64);
        require(is_inside, || {
            format!(
                "its tensor {} is the end of the file, and llama.cpp reads {n_read} values from its start on; put it before other tensors",
                factors.name
            )
        })
    })
}

fn check_place(tensor: &TensorInfo) -> Check {
    require(tensor.offset.is_multiple_of(ALIGNMENT), || {
        format!(
            "its tensor {} begins at byte {}, and llama.cpp needs a multiple of {ALIGNMENT}",
            tensor.name, tensor.offset
        )
    })
}

fn check_type(tensor: &TensorInfo) -> Check {
    // llama.cpp reads a vector with further dimensions of 1 as the vector.
    let is_vector = tensor.shape.iter().skip(1).all(|&n| n == 1);
    let ggml_type = tensor.ggml_type;
    let is_kernel = KERNELS.iter().any(|it| tensor.name.ends_with(it));
    let is_f32 = is_vector || is_kernel;
    let is_sound = if is_f32 {
        ggml_type == GgmlType::F32
    } else {
        !NO_WEIGHTS.contains(&ggml_type)
    };
    require(is_sound, || {
        let needed = if is_f32 {
            "F32"
        } else {
            "a floating-point or a quantised type"
        };
        format!(
            "its tensor {} is of type {ggml_type}, and llama.cpp needs {needed}",
            tensor.name
        )
    })
}

/// Refuses the scale of an NVFP4 weight where ggml asserts that there is none: of an embedding that is the head too, and of
/// a feed-forward layer with a bias.
fn check_scale(tensors: &[TensorInfo], scale: &TensorInfo) -> Check {
    let is_refused = match scale.name.rsplit_once('.') {
        Some(("output", "scale" | "input_scale")) => {
            find(tensors, "output.weight").is_none() && is_nvfp4(tensors, "token_embd.weight")
        }
        Some((layer, "scale")) => {
            layer.contains(".ffn_")
                && is_nvfp4(tensors, &format!("{layer}.weight"))
                && find(tensors, &format!("{layer}.bias")).is_some()
        }
        _ => false,
    };
    require(!is_refused, || {
        let name = &scale.name;
        format!("its tensor {name} scales a weight of type NVFP4 that llama.cpp cannot scale")
    })
}

/// Refuses an adapter for a feed-forward layer of type NVFP4 with a scale: ggml asserts that there is none.
pub(super) fn check_adapter(base: &[TensorInfo], adapter: &Adapter) -> Check {
    let is_refused = |name: &&str| {
        let scale = name.replace(".weight", ".scale");
        name.contains(".ffn_") && is_nvfp4(base, name) && find(base, &scale).is_some()
    };
    let mut names = adapter.tensors.iter().map(|pair| pair.name.as_str());
    match names.find(is_refused) {
        Some(name) => Err(format!(
            "it changes {name}, which is of type NVFP4 with a scale in the base; use a base of another type"
        )),
        None => Ok(()),
    }
}

fn find<'t>(tensors: &'t [TensorInfo], name: &str) -> Option<&'t TensorInfo> {
    tensors.iter().find(|tensor| tensor.name == name)
}

fn is_nvfp4(tensors: &[TensorInfo], name: &str) -> bool {
    find(tensors, name).is_some_and(|tensor| tensor.ggml_type == GgmlType::NVFP4)
}

/// The first tensor of the file that no model of its family has, and why, as the end of a sentence.
pub(super) fn unknown(metadata: &Metadata<'_>) -> Option<String> {
    let architecture = metadata.architecture;
    if !FAMILIES.contains(&architecture) {
        return None;
    }
    let reason = |tensor: &TensorInfo| {
        let name = &tensor.name;
        if let Some(fused) = fused_with(metadata, name) {
            return Some(format!(
                "its tensor {name} is a part of {fused}, which it has too"
            ));
        }
        if let Some(lacking) = lacking_beside(metadata, name) {
            return Some(format!("its tensor {name} has no use without {lacking}"));
        }
        let is_known = match block_tensor(name) {
            Some((block, _)) if block >= metadata.count("block_count") => {
                let n_blocks = metadata.count("block_count");
                return Some(format!(
                    "its block_count is {n_blocks}, and it has a tensor of one more block, {name}"
                ));
            }
            Some((block, name)) => {
                is_in_blocks(architecture, name) && recurrent::is_of_mixer(metadata, block, name)
            }
            None => is_outside_blocks(architecture, name),
        } && gemma4::is_of_inputs(metadata, name);
        (!is_known)
            .then(|| format!("its tensor {name} is unknown in models of the family {architecture}"))
    };
    metadata.model.tensors.iter().find_map(reason)
}

/// The tensor that has the values of another too: q, k and v of a block are one matrix or three, and so are their biases.
fn fused_with(metadata: &Metadata<'_>, name: &str) -> Option<String> {
    let weight = name.replace(".bias", ".weight");
    let fused = fused_tensor(metadata.model, &weight)?.name.clone();
    if weight == name {
        return Some(fused);
    }
    let bias = fused.replace(".weight", ".bias");
    metadata.model.tensor(&bias).is_some().then_some(bias)
}

/// The tensor that another is used with, if the file does not have it.
fn lacking_beside(metadata: &Metadata<'_>, name: &str) -> Option<String> {
    let model = metadata.model;
    if let Some(fused) = name.strip_suffix("attn_qkv.bias") {
        let weight = format!("{fused}attn_qkv.weight");
        return model.tensor(&weight).is_none().then_some(weight);
    }
    let scaled = name.strip_suffix(".input_scale");
    if let Some(layer) = scaled.or_else(|| name.strip_suffix(".scale"))
        && layer.starts_with("blk.")
    {
        let weight = format!("{layer}.weight");
        return model.tensor(&weight).is_none().then_some(weight);
    }
    match name {
        "output.scale" | "output.input_scale" => {
            let head = model.tensor("output.weight");
            let head = head.or_else(|| model.tensor("token_embd.weight"));
            let is_nvfp4 = head.is_some_and(|head| head.ggml_type == GgmlType::NVFP4);
            (!is_nvfp4).then(|| "a head of type NVFP4".to_owned())
        }
        "rope_factors_long.weight" | "rope_factors_short.weight"
            if metadata.architecture != "phi3" =>
        {
            let scaling = metadata.get("rope.scaling.type").and_then(Value::as_str);
            (scaling != Some("longrope")).then(|| "a RoPE scaling of type longrope".to_owned())
        }
        _ => None,
    }
}

/// The number of a tensor's block, and the rest of its name. `None` for a tensor outside the blocks.
fn block_tensor(name: &str) -> Option<(u32, &str)> {
    let (block, name) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((block.parse().ok()?, name))
}

/// The families with the tensors of Llama.
const LIKE_LLAMA: [&str; 3] = ["granite", "llama", "mistral3"];

/// Whether llama.cpp reads this tensor outside the blocks of a family.
fn is_outside_blocks(architecture: &str, name: &str) -> bool {
    match name {
        "token_embd.weight" | "output.scale" | "output.input_scale" => true,
        "output_norm.weight" => architecture != "lfm2",
        "token_embd_norm.weight" => architecture == "lfm2",
        "output.weight" => architecture != "gemma2",
        "output.bias" => architecture == "qwen2",
        "rope_freqs.weight" => LIKE_LLAMA.contains(&architecture) || architecture == "gemma4",
        "per_layer_token_embd.weight"
        | "per_layer_model_proj.weight"
        | "per_layer_proj_norm.weight" => architecture == "gemma4",
        "rope_factors_long.weight" | "rope_factors_short.weight" => {
            LIKE_LLAMA.contains(&architecture) || architecture == "phi3"
        }
        "cls.output.weight" => ["qwen3", "qwen35"].contains(&architecture),
        "cls.output.bias" => architecture == "qwen35",
        "dense_2.weight" if architecture == "lfm2" => true,
        "dense_2.weight" | "dense_3.weight" => architecture == "gemma3",
        _ => false,
    }
}

/// Whether llama.cpp reads this tensor of a block, without the block's prefix, in a family.
fn is_in_blocks(architecture: &str, name: &str) -> bool {
    let Some((name, ending)) = name.rsplit_once('.') else {
        return architecture == "qwen35" && name == "ssm_a";
    };
    let of_mixers = OF_MIXERS.iter().find(|it| it.0 == architecture);
    let has_experts = LIKE_LLAMA.contains(&architecture) || architecture == "gemma4";
    let is_own = of_mixers.is_some_and(|it| it.1.contains(&name));
    let is_matrix = MATRICES.contains(&name) && (architecture, name) != ("phi3", "ffn_gate")
        || is_own
        || has_experts && EXPERTS.contains(&name);
    match ending {
        "weight" => {
            is_matrix
                || match name {
                    "attn_norm" => architecture != "olmo2",
                    "ffn_norm" => !["olmo2", "qwen35"].contains(&architecture),
                    "shortconv.conv" => architecture == "lfm2",
                    "ssm_conv1d" | "ssm_norm" => architecture == "qwen35",
                    "attn_q_norm" | "attn_k_norm" => {
                        ["qwen3", "gemma3", "gemma4", "olmo2", "lfm2", "qwen35"]
                            .contains(&architecture)
                    }
                    "post_attention_norm" if architecture == "qwen35" => true,
                    _ if name.starts_with("nextn.") => architecture == "qwen35",
                    "post_attention_norm" | "post_ffw_norm" => {
                        ["gemma2", "gemma3", "gemma4", "olmo2"].contains(&architecture)
                    }
                    "post_norm" | "layer_output_scale" => architecture == "gemma4",
                    _ => false,
                }
        }
        "bias" => match name {
            "attn_q" | "attn_k" | "attn_v" | "attn_qkv" => architecture != "gemma4",
            "ssm_dt" => architecture == "qwen35",
            _ => LIKE_LLAMA.contains(&architecture) && MATRICES.contains(&name),
        },
        "scale" | "input_scale" => is_matrix && (architecture != "gemma4" || !is_own),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use GgmlType::{NVFP4, Q4_0};
    use cope_convert::{LoraTensor, Matrix};

    use super::*;

    fn tensor(name: &str, shape: &[u64], ggml_type: GgmlType) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            shape: shape.to_vec(),
            ggml_type,
            path: std::path::Path::new("tiny.gguf").into(),
            offset: 0,
            n_bytes: 0,
        }
    }

    #[test]
    fn vectors_are_f32_and_matrices_of_a_type_that_can_be_multiplied() {
        let message = |name: &str, shape: &[u64], ggml_type| {
            check_type(&tensor(name, shape, ggml_type)).err()
        };
        for ggml_type in [
            GgmlType::F32,
            GgmlType::BF16,
            GgmlType::Q4_K,
            GgmlType::IQ2_S,
        ] {
            assert_eq!(message("blk.0.attn_q.weight", &[64, 64], ggml_type), None);
        }
        assert_eq!(message("output_norm.weight", &[64], GgmlType::F32), None);
        for ggml_type in [GgmlType::F16, GgmlType::BF16, GgmlType::F64, GgmlType::I32] {
            for name in [
                "blk.1.ffn_norm.weight",
                "blk.0.attn_q.bias",
                "rope_freqs.weight",
            ] {
                for shape in [&[64][..], &[64, 1], &[64, 1, 1, 1]] {
                    let flaw = message(name, shape, ggml_type).unwrap();
                    assert_eq!(
                        flaw,
                        format!(
                            "its tensor {name} is of type {ggml_type}, and llama.cpp needs F32"
                        )
                    );
                }
            }
        }
        for ggml_type in NO_WEIGHTS {
            let flaw = message("token_embd.weight", &[64, 300], ggml_type).unwrap();
            let end = "llama.cpp needs a floating-point or a quantised type";
            assert!(flaw.ends_with(end), "{flaw}");
        }
    }

    #[test]
    fn data_begins_where_a_buffer_can() {
        let at = |offset| TensorInfo {
            offset,
            ..tensor("output.weight", &[64, 300], GgmlType::F16)
        };
        assert_eq!(check_place(&at(4096 + 32)), Ok(()));
        let flaw = check_place(&at(4096 + 16)).unwrap_err();
        assert_eq!(
            flaw,
            "its tensor output.weight begins at byte 4112, and llama.cpp needs a multiple of 32"
        );
    }

    #[test]
    fn factors_that_ggml_reads_beyond_are_not_the_end_of_a_file() {
        let at = |name: &str, n: u64, offset| TensorInfo {
            offset,
            n_bytes: 4 * n,
            ..tensor(name, &[n], GgmlType::F32)
        };
        let factors = at("rope_factors_short.weight", 6, 64);
        let check = |last: TensorInfo, head| check_factors(&[factors.clone(), last], head);
        assert_eq!(check(at("output.weight", 4, 96), 16), Ok(()));
        assert_eq!(check(at("token_embd.weight", 4, 0), 12), Ok(()));
        let flaw = check(at("token_embd.weight", 4, 0), 16).unwrap_err();
        assert!(flaw.contains("reads 8 values"), "{flaw}");
        let elsewhere = TensorInfo {
            path: std::path::Path::new("other.gguf").into(),
            ..at("output.weight", 4, 96)
        };
        assert!(check(elsewhere, 16).is_err());
    }

    #[test]
    fn weights_of_nvfp4_are_scaled_only_where_llama_cpp_can() {
        let check = |of_type: GgmlType, weight: &str, others: &[&str]| {
            let vector = |name: &&str| tensor(name, &[1], GgmlType::F32);
            let mut tensors: Vec<_> = others.iter().map(vector).collect();
            tensors.push(tensor(weight, &[64, 64], of_type));
            let scale = &tensors[0];
            check_scale(&tensors, scale).is_ok()
        };
        for (of_type, weight, others, is_sound) in [
            (NVFP4, "token_embd.weight", &["output.scale"][..], false),
            (Q4_0, "token_embd.weight", &["output.scale"], true),
            (
                NVFP4,
                "token_embd.weight",
                &["output.scale", "output.weight"],
                true,
            ),
            (NVFP4, "blk.0.ffn_up.weight", &["blk.0.ffn_up.scale"], true),
            (
                NVFP4,
                "blk.0.ffn_up.weight",
                &["blk.0.ffn_up.scale", "blk.0.ffn_up.bias"],
                false,
            ),
            (
                NVFP4,
                "blk.0.attn_q.weight",
                &["blk.0.attn_q.scale", "blk.0.attn_q.bias"],
                true,
            ),
        ] {
            assert_eq!(
                check(of_type, weight, others),
                is_sound,
                "{of_type} {others:?}"
            );
        }
    }

    #[test]
    fn an_adapter_changes_no_scaled_feed_forward_layer_of_nvfp4() {
        let zeros = |rows, cols| Matrix {
            rows,
            cols,
            data: vec![0.0; rows * cols],
        };
        let adapter = |name: &str| {
            Adapter::new(
                "llama",
                1.0,
                vec![LoraTensor {
                    name: name.to_owned(),
                    a: zeros(1, 64),
                    b: zeros(64, 1),
                }],
            )
        };
        let mut base = Vec::new();
        for layer in ["attn_q", "ffn_up", "ffn_down"] {
            let name = |ending| format!("blk.0.{layer}.{ending}");
            base.push(tensor(&name("weight"), &[64, 64], GgmlType::NVFP4));
            base.push(tensor(&name("scale"), &[1], GgmlType::F32));
        }
        base.retain(|it| it.name != "blk.0.ffn_down.scale");
        for name in ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"] {
            assert_eq!(check_adapter(&base, &adapter(name)), Ok(()));
        }
        let flaw = check_adapter(&base, &adapter("blk.0.ffn_up.weight")).unwrap_err();
        assert!(
            flaw.starts_with("it changes blk.0.ffn_up.weight, which"),
            "{flaw}"
        );
    }

    #[test]
    fn a_family_has_its_own_tensors_and_no_others() {
        let known = |name: &str| {
            let of_family = |family: &&str| match block_tensor(name) {
                Some((_, name)) => is_in_blocks(family, name),
                None => is_outside_blocks(family, name),
            };
            let families: Vec<_> = FAMILIES.into_iter().filter(of_family).collect();
            families.join(" ")
        };
        let all = FAMILIES.join(" ");
        let with_biases = all.replace("gemma4 ", "");
        for (name, families) in [
            ("token_embd.weight", all.as_str()),
            ("blk.0.attn_qkv.bias", &with_biases),
            ("blk.11.ffn_down.scale", &all),
            ("output.bias", "qwen2"),
            ("rope_freqs.weight", "gemma4 granite llama mistral3"),
            ("rope_factors_long.weight", "granite llama mistral3 phi3"),
            (
                "blk.0.ffn_gate.weight",
                "gemma2 gemma3 gemma4 granite lfm2 llama mistral3 olmo2 qwen2 qwen3 qwen35 smollm3",
            ),
            ("blk.0.rope_freqs.weight", ""),
            ("blk.0.attn_output.bias", "granite llama mistral3"),
            (
                "blk.0.attn_q_norm.weight",
                "gemma3 gemma4 lfm2 olmo2 qwen3 qwen35",
            ),
            ("blk.0.inp_gate.weight", "gemma4"),
            ("blk.0.inp_gate.scale", ""),
            ("per_layer_token_embd.weight", "gemma4"),
            ("blk.0.ssm_a", "qwen35"),
            ("blk.0.ssm_dt.bias", "qwen35"),
            ("blk.0.shortconv.in_proj.weight", "lfm2"),
            ("token_embd_norm.weight", "lfm2"),
            ("blk.0.post_ffw_norm.weight", "gemma2 gemma3 gemma4 olmo2"),
            ("blk.0.ffn_up_exps.weight", "gemma4 granite llama mistral3"),
            ("blk.0.attn_norm.bias", ""),
            ("blk.0.attn_q.weight.weight", ""),
            ("blk.x.attn_q.weight", ""),
            ("token_embd", ""),
        ] {
            assert_eq!(known(name), families, "{name}");
        }
    }
}
