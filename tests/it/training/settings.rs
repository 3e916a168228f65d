//! Mutated settings of a model's file: whatever training accepts, llama.cpp runs with the same logits, and whatever is
//! refused is refused before anything is trained, in one line.

use std::path::Path;

use cope_convert::gguf::{self, Array, Gguf, TensorData, Value};
use cope_llama::llama::{Boundary, Context, ContextOptions, Model, Special, Token};
use cope_llama::train::WeightType;
use cope_llama::train::model::TrainModel;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{assert_no_faults, largest_difference, n_mutations, train_logits};
use crate::fixture::{exact, folder_in_memory};
use crate::tiny::{FAMILIES, TinyModel, values_of};

/// The settings that llama.cpp reads for these families, and some that it reads for others alone.
const KEYS: [&str; 39] = [
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.causal",
    "attention.scale",
    "attention.clamp_kqv",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "attention.temperature_scale",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "deepstack_mapping",
    "vocab_size",
    "expert_count",
];

/// The settings that llama.cpp reads for this family alone.
fn own_keys(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "gemma4" => &[
            "attention.shared_kv_layers",
            "embedding_length_per_layer_input",
            "nextn_predict_layers",
        ],
        "lfm2" => &["shortconv.l_cache"],
        "qwen35" => &[
            "ssm.conv_kernel",
            "ssm.group_count",
            "ssm.time_step_rank",
            "ssm.state_size",
            "ssm.inner_size",
            "full_attention_interval",
            "attention.recurrent_layers",
            "rope.dimension_sections",
            "nextn_predict_layers",
        ],
        _ => &[],
    }
}

/// A list with a value for each block, or for some.
fn list(key: &str, n_blocks: usize, random: &mut StdRng) -> Value {
    let n = match random.random_range(0..6) {
        0 => random.random_range(1..6),
        _ => n_blocks,
    };
    let choices: &[i32] = match key {
        "attention.head_count_kv" => &[0, 1, 2, 2, 2],
        "feed_forward_length" => &[128, 128, 256],
        "rope.dimension_sections" => &[0, 1, 2, 3],
        _ => &[0, 1],
    };
    let mut pick = |_| choices[random.random_range(0..choices.len())];
    let values: Vec<i32> = (0..n).map(&mut pick).collect();
    let are_flags = key.ends_with("pattern") || key.ends_with("layers");
    Value::Array(if are_flags && random.random() {
        Array::Bool(values.into_iter().map(|it| it != 0).collect())
    } else {
        Array::I32(values)
    })
}

/// The keys of lists in families whose blocks differ.
const LISTS: [&str; 5] = [
    "attention.head_count_kv",
    "attention.sliding_window_pattern",
    "attention.recurrent_layers",
    "feed_forward_length",
    "rope.dimension_sections",
];

/// A value for a setting: mostly one that it may have, sometimes one of another type.
fn value(key: &str, random: &mut StdRng) -> Value {
    let pick = |values: &[f32], random: &mut StdRng| values[random.random_range(0..values.len())];
    if random.random_range(0..6) == 0 {
        let n = random.random_range(0..70_u32);
        return match random.random_range(0..9) {
            0 => Value::I32(n as i32),
            1 => Value::U64(n.into()),
            2 => Value::U16(n as u16),
            3 => Value::F64(f64::from(n)),
            4 => Value::F32(n as f32),
            5 => Value::U32(n),
            6 => Value::Bool(n % 2 == 0),
            7 => Value::from("linear"),
            _ => Value::Array(Array::U32(vec![n; random.random_range(1..4)])),
        };
    }
    match key {
        "rope.scaling.type" => {
            let types = ["none", "linear", "yarn", "longrope", "cubic"];
            Value::from(types[random.random_range(0..types.len())])
        }
        "attention.causal" | "rope.scaling.finetuned" => Value::Bool(random.random()),
        "attention.sliding_window_pattern" => match random.random_range(0..3) {
            0 => Value::U32(random.random_range(0..4)),
            1 => Value::Array(Array::Bool((0..2).map(|_| random.random()).collect())),
            _ => {
                let n = random.random_range(1..4);
                let layers = (0..n).map(|_| random.random_range(0..2)).collect();
                Value::Array(Array::I32(layers))
            }
        },
        "rope.freq_base" | "rope.freq_base_swa" => {
            Value::F32(pick(&[0.0, 50.0, 10_000.0, 1e6], random))
        }
        "attention.layer_norm_rms_epsilon" | "attention.layer_norm_epsilon" => {
            Value::F32(pick(&[0.0, 1e-6, 1e-2, -1.0], random))
        }
        key if key.contains("scal") && !key.contains("context")
            || key.ends_with("kqv")
            || key.ends_with("capping") =>
        {
            Value::F32(pick(&[0.0, 0.7, 1.0, 1.3, 4.0], random))
        }
        _ => Value::U32(pick(&[0.0, 1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0, 128.0], random) as u32),
    }
}

/// Changes, adds or removes one or two settings.
fn mutate(architecture: &str, metadata: &mut Vec<(String, Value)>, random: &mut StdRng) {
    let own = own_keys(architecture);
    let keys = [KEYS.as_slice(), own].concat();
    let n_blocks = if architecture == "gemma4" { 4 } else { 2 };
    for _ in 0..random.random_range(1..3) {
        let setting = keys[random.random_range(0..keys.len())];
        let key = format!("{architecture}.{setting}");
        metadata.retain(|entry| entry.0 != key);
        if random.random_range(0..8) > 0 {
            let is_list = !own.is_empty() && LISTS.contains(&setting);
            let value = if is_list && random.random_range(0..3) > 0 {
                let n = if setting.ends_with("sections") {
                    4
                } else {
                    n_blocks
                };
                list(setting, n, random)
            } else {
                value(setting, random)
            };
            metadata.push((key, value));
        }
    }
}

/// The logits that training computes with the file, or why it refuses it.
fn trained(path: &Path, tokens: &[Token]) -> cope_llama::Result<Vec<f32>> {
    Model::load_without_weights(path)?;
    let model = TrainModel::load(&Gguf::open(path)?, WeightType::F32)?;
    Ok(train_logits(&model, tokens, None))
}

/// The logits that llama.cpp computes.
fn run(path: &Path, tokens: &[Token]) -> cope_llama::Result<Vec<f32>> {
    let options = ContextOptions {
        n_ctx: 64,
        ..exact()
    };
    Context::new(&Model::load(path, None)?, None, &options)?.extend_all(tokens)
}

#[test]
fn training_and_llama_cpp_read_every_setting_alike_or_refuse_the_file() {
    assert_no_faults(&FAMILIES, faults);
}

/// The faults of the mutated files of a family.
fn faults(architecture: &'static str) -> Vec<String> {
    let folder = folder_in_memory();
    let path = folder.path().join("mutated.gguf");
    let tiny = TinyModel {
        architecture,
        ..TinyModel::default()
    };
    tiny.write(&path);
    let text = "hello alice, the wine and a dear note, thanks and hello again";
    let model = Model::load(&path, None).unwrap();
    let tokens = model
        .tokenize(text, Boundary::Add, Special::ByName)
        .unwrap();
    // ggml reads GELU from a table in half precision.
    let tolerance = if architecture.starts_with("gemma") {
        2e-2
    } else {
        2e-3
    };
    let mut random = StdRng::seed_from_u64(architecture.bytes().map(u64::from).sum());
    let file = Gguf::open(&path).unwrap();
    let weights: Vec<_> = file.tensors.iter().map(|it| values_of(&file, it)).collect();
    let tensors = file.tensors.iter().zip(&weights);
    let tensors: Vec<_> = tensors
        .map(|(tensor, values)| TensorData::f32(tensor.name.as_str(), &tensor.shape, values))
        .collect();
    let (mut n_alike, mut n_refused, mut faults) = (0, 0, Vec::new());
    for _ in 0..n_mutations() {
        let mut metadata = file.metadata.clone();
        mutate(architecture, &mut metadata, &mut random);
        gguf::write(&path, &metadata, &tensors).unwrap();
        match compare(
            &path,
            &tokens,
            tolerance * rounding(architecture, &metadata),
        ) {
            Ok(true) => n_alike += 1,
            Ok(false) => n_refused += 1,
            Err(fault) => {
                metadata.retain(|it| !file.metadata.contains(it));
                faults.push(format!("{architecture} {metadata:?}: {fault}"));
            }
        }
    }
    println!("{architecture}: {n_alike} read alike, {n_refused} refused");
    let least = n_mutations() / 20;
    assert!(n_alike > least && n_refused > least);
    faults
}

/// How many times larger than usual the rounding of the logits may be: a factor of the rotation counts twice in each score, and
/// the rounding of large scores decides which key has all the weight.
fn rounding(architecture: &str, metadata: &[(String, Value)]) -> f32 {
    let key = format!("{architecture}.rope.scaling.attn_factor");
    let factor = metadata.iter().find(|it| it.0 == key);
    let factor = factor.and_then(|(_, value)| value.as_f32()).unwrap_or(1.0);
    (factor * factor / 100.0).max(1.0)
}

/// Whether training accepts the file and computes llama.cpp's logits (`true`), or refuses it as it should. The error says
/// what is wrong with that.
fn compare(path: &Path, tokens: &[Token], tolerance: f32) -> Result<bool, String> {
    match trained(path, tokens) {
        Ok(ours) => {
            let theirs = run(path, tokens).map_err(|error| format!("does not run: {error}"))?;
            let difference = largest_difference(&ours, &theirs);
            if difference < tolerance {
                Ok(true)
            } else {
                Err(format!("the logits differ by {difference}"))
            }
        }
        Err(error) => {
            let message = error.to_string();
            if !message.contains("mutated.gguf") || message.contains('\n') {
                return Err(format!("is refused by {message:?}"));
            }
            // What llama.cpp would run may be refused, but then for what training lacks.
            if message.contains("in training") || run(path, tokens).is_err() {
                Ok(false)
            } else {
                Err(format!("runs, and is refused: {message}"))
            }
        }
    }
}
