//! Tests of PEFT folders: conversion there and back, the effect of each setting, and the settings that are refused by
//! name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cope_convert::gguf::{self, GgmlType, Gguf, TensorData, Value};
use cope_convert::safetensors::{self, Dtype, SafeTensors, TensorSpec};
use cope_convert::{
    Adapter, AdapterFlaw, Error, LoraPair, LoraTensor, Matrix, PeftFlaw, RopeFactors, left_out,
};
use serde_json::{Value as Json, json};

use crate::files::Folder;

const N_EMBD: usize = 8;
const N_KV: usize = 4;
pub const FAMILIES: [&str; 13] = [
    "llama", "qwen2", "qwen3", "qwen35", "gemma2", "gemma3", "gemma4", "granite", "lfm2",
    "mistral3", "olmo2", "phi3", "smollm3",
];

/// A base with one layer, two heads of queries and one head of keys, with four rows each.
fn base(folder: &Folder, architecture: &str) -> Gguf {
    let number = |key: &str, number: u32| (format!("{architecture}.{key}"), Value::from(number));
    let metadata = [
        ("general.architecture".to_owned(), Value::from(architecture)),
        number("attention.head_count", 2),
        number("attention.head_count_kv", 1),
        number("ssm.group_count", 2),
        number("ssm.time_step_rank", 4),
        number("ssm.state_size", 2),
    ];
    let weights = vec![0.5; N_EMBD * 2 * N_EMBD];
    let tensor = |name: &str, n_out: usize| {
        let values = &weights[..N_EMBD * n_out];
        TensorData::f32(
            format!("blk.0.{name}.weight"),
            &[N_EMBD as u64, n_out as u64],
            values,
        )
    };
    let tensors = if architecture == "phi3" {
        vec![
            tensor("attn_qkv", N_EMBD + 2 * N_KV),
            tensor("ffn_up", 2 * N_EMBD),
        ]
    } else if architecture == "qwen35" {
        // Two key heads and four value heads, each of two features.
        vec![
            tensor("attn_gate", N_EMBD),
            tensor("attn_qkv", 2 * N_EMBD),
            tensor("ssm_alpha", N_KV),
            tensor("ssm_out", N_EMBD),
        ]
    } else if architecture == "lfm2" {
        vec![
            tensor("attn_output", N_EMBD),
            tensor("shortconv.in_proj", 2 * N_EMBD),
        ]
    } else if architecture == "gemma4" {
        vec![
            tensor("attn_q", N_EMBD),
            tensor("inp_gate", N_KV),
            tensor("proj", N_EMBD),
        ]
    } else {
        vec![
            tensor("attn_q", N_EMBD),
            tensor("attn_k", N_KV),
            tensor("ffn_up", N_EMBD),
        ]
    };
    let path = folder.join("base.gguf");
    gguf::write(&path, &metadata, &tensors).unwrap();
    Gguf::open(&path).unwrap()
}

/// An adapter for all tensors of `base`. The ranks are 2; if `mixed`, the last is 3.
fn adapter(base: &Gguf, mixed: bool) -> Adapter {
    let n = base.tensors.len();
    let pair = |(number, tensor): (usize, &gguf::TensorInfo)| {
        let rank = if mixed && number + 1 == n { 3 } else { 2 };
        let [n_in, n_out] = tensor.shape[..] else {
            panic!("a matrix")
        };
        let matrix = |rows: usize, cols: usize| Matrix {
            rows,
            cols,
            data: (0..rows * cols)
                .map(|i| (i + 100 * number) as f32)
                .collect(),
        };
        LoraTensor {
            name: tensor.name.clone(),
            a: matrix(rank, n_in as usize),
            b: matrix(n_out as usize, rank),
        }
    };
    Adapter {
        architecture: base.architecture().unwrap().to_owned(),
        lora_alpha: 3.7,
        base_sha256: Some("0123456789abcdef".repeat(4)),
        task_sha256: None,
        contrast: Some(0.3),
        plausibility: Some(0.1),
        rope_factors: Some(RopeFactors::Long),
        name: Some("alice \"é\"".to_owned()),
        tensors: base.tensors.iter().enumerate().map(pair).collect(),
    }
}

#[test]
fn there_and_back_gives_the_same_bytes() {
    for architecture in FAMILIES {
        for (mixed, lora_alpha) in [(false, 3.7), (true, 16.0), (false, 0.0), (false, 2.0)] {
            let folder = Folder::new();
            let base = base(&folder, architecture);
            let [ours, peft, back] = ["ours.gguf", "peft", "back.gguf"].map(|it| folder.join(it));
            let adapter = Adapter {
                lora_alpha,
                ..adapter(&base, mixed)
            };
            for ggml_type in [None, Some(GgmlType::F16), Some(GgmlType::BF16)] {
                adapter.write_gguf_as(&ours, ggml_type).unwrap();
                let opened = Adapter::open_gguf(&ours).unwrap();
                opened.write_peft(&peft, &base, "the base", None).unwrap();
                let read = Adapter::open_peft(&peft, &base).unwrap();
                read.write_gguf(&back).unwrap();
                assert_eq!(
                    fs::read(&ours).unwrap(),
                    fs::read(&back).unwrap(),
                    "{architecture}"
                );
            }
        }
    }
}

/// Writes a base with one layer of two square matrices.
pub fn write_base(path: &Path, width: usize) {
    let metadata = [
        ("general.architecture".to_owned(), Value::from("llama")),
        ("llama.attention.head_count".to_owned(), Value::from(2_u32)),
    ];
    let weights = vec![0.5; width * width];
    let shape = [width as u64; 2];
    let tensors = ["attn_q", "ffn_up"]
        .map(|name| TensorData::f32(format!("blk.0.{name}.weight"), &shape, &weights));
    gguf::write(path, &metadata, &tensors).unwrap();
}

/// PEFT's file holds quantised halves widened, with their types in its metadata.
#[test]
fn quantised_halves_come_back_as_they_were() {
    let folder = Folder::new();
    let path = folder.join("base.gguf");
    write_base(&path, 64);
    let base = Gguf::open(&path).unwrap();
    let mut adapter = adapter(&base, false);
    let matrix = |rows: usize, cols: usize| Matrix {
        rows,
        cols,
        data: (0..rows * cols).map(|i| (i as f32).sin()).collect(),
    };
    // With rank 32 the rows of `B` are whole blocks, with rank 2 they are not.
    (adapter.tensors[0].a, adapter.tensors[0].b) = (matrix(32, 64), matrix(64, 32));
    (adapter.tensors[1].a, adapter.tensors[1].b) = (matrix(2, 64), matrix(64, 2));
    let [ours, peft, back] = ["ours.gguf", "peft", "back.gguf"].map(|it| folder.join(it));
    adapter.write_gguf_as(&ours, Some(GgmlType::Q8_0)).unwrap();
    let types: Vec<_> = Gguf::open(&ours)
        .unwrap()
        .tensors
        .iter()
        .map(|it| it.ggml_type)
        .collect();
    let [q8_0, f16] = [GgmlType::Q8_0, GgmlType::F16];
    assert_eq!(types, [q8_0, q8_0, q8_0, f16]);
    let stored = Adapter::open_gguf(&ours).unwrap();
    stored.write_peft(&peft, &base, "the base", None).unwrap();
    let read = Adapter::open_peft(&peft, &base).unwrap();
    read.write_gguf(&back).unwrap();
    assert_eq!(fs::read(&ours).unwrap(), fs::read(&back).unwrap());
    let widened = stored.load().unwrap().tensors;
    for (one, other) in widened[0].a.data.iter().zip(&adapter.tensors[0].a.data) {
        assert!((one - other).abs() < 0.005, "{one} for {other}");
    }
    adapter.tensors[0].a.data[7] = 1e5;
    let failed = adapter.write_gguf_as(&ours, Some(GgmlType::F16));
    let Err(Error::Adapter { flaw, .. }) = failed else {
        panic!("{failed:?}")
    };
    let expected = AdapterFlaw::TooLarge {
        tensor: "blk.0.attn_q.weight.lora_a".into(),
        ggml_type: f16,
    };
    assert_eq!(flaw, expected);
}

#[test]
fn peft_gets_its_own_names_and_rows() {
    let folder = Folder::new();
    let base = base(&folder, "llama");
    let peft = folder.join("peft");
    let adapter = adapter(&base, true);
    adapter
        .write_peft(&peft, &base, "owner/base", None)
        .unwrap();
    let config: Json =
        serde_json::from_slice(&fs::read(peft.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["base_model_name_or_path"], "owner/base");
    assert_eq!(
        config["target_modules"],
        json!(["k_proj", "q_proj", "up_proj"])
    );
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&json!(3), &json!(3.7_f32))
    );
    let twos = ["k_proj", "q_proj"].map(|it| (format!("model.layers.0.self_attn.{it}"), json!(2)));
    assert_eq!(config["rank_pattern"], json!(BTreeMap::from(twos)));

    let weights = SafeTensors::open(&peft.join("adapter_model.safetensors")).unwrap();
    let names: Vec<_> = weights.tensors.iter().map(|it| it.name.as_str()).collect();
    let layer = "base_model.model.model.layers.0";
    let expected = ["mlp.up_proj", "self_attn.k_proj", "self_attn.q_proj"]
        .map(|module| ["A", "B"].map(|half| format!("{layer}.{module}.lora_{half}.weight")));
    assert_eq!(names, expected.concat());
    // k has one head: these are rows 0, 2, 1, 3 of the GGUF, two numbers each, counted from 100 on.
    let b = weights.read(&weights.tensors[3]).unwrap();
    let b: Vec<_> = b
        .as_chunks()
        .0
        .iter()
        .map(|&it| f32::from_le_bytes(it))
        .collect();
    assert_eq!(b, [100.0, 101.0, 104.0, 105.0, 102.0, 103.0, 106.0, 107.0]);
}

/// Writes a PEFT folder for q of [`base`], with the usual settings changed by `settings`, and tensors with these names.
fn peft(path: &Path, settings: &Json, names: &[&str]) {
    fs::create_dir_all(path).unwrap();
    let mut config = json!({
        "peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_dora": false,
        "modules_to_save": null, "init_lora_weights": true, "lora_dropout": 0.05, "qalora_group_size": 16,
        "a_later_version's": null, "another_one's": false,
    });
    let config_map = config.as_object_mut().unwrap();
    config_map.extend(settings.as_object().unwrap().clone());
    fs::write(path.join("adapter_config.json"), config.to_string()).unwrap();
    let spec = |name: &&str| TensorSpec {
        name: (*name).to_owned(),
        dtype: Dtype::F16,
        shape: if name.contains("lora_A") {
            vec![4, 8]
        } else {
            vec![8, 4]
        },
    };
    let specs: Vec<_> = names.iter().map(spec).collect();
    let path = path.join("adapter_model.safetensors");
    safetensors::write(&path, &BTreeMap::new(), &specs, |_| Ok(vec![0; 64])).unwrap();
}

const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

fn open(settings: &Json, names: &[&str]) -> Result<f32, PeftFlaw> {
    let folder = Folder::new();
    let base = base(&folder, "llama");
    let path = folder.join("peft");
    peft(&path, settings, names);
    match Adapter::open_peft(&path, &base) {
        Ok(adapter) => Ok(adapter.lora_scale(4)),
        Err(Error::Peft { flaw, .. }) => Err(flaw),
        Err(other) => panic!("expected a PEFT flaw, got {other}"),
    }
}

#[test]
fn the_factor_equals_that_of_peft() {
    assert_eq!(open(&json!({}), &[A, B]), Ok(2.0));
    assert_eq!(
        open(&json!({"use_rslora": true}), &[A, B]),
        Ok(4.0),
        "8 / √4"
    );
    let patterns = json!({"rank_pattern": {"q_proj": 4, "v_proj": 2}, "alpha_pattern": {"q": 8}});
    assert_eq!(open(&patterns, &[A, B]), Ok(2.0));
    assert_eq!(
        open(&json!({"alpha_pattern": {"v_proj": 4}}), &[A, B]),
        Ok(2.0)
    );
    let old = [A, B].map(|name| name.replace(".weight", ".default.weight"));
    assert_eq!(
        open(&json!({}), &old.each_ref().map(String::as_str)),
        Ok(2.0)
    );
}

#[test]
fn settings_that_gguf_cannot_express_are_refused_by_name() {
    for (setting, value) in [
        ("use_dora", json!(true)),
        ("bias", json!("lora_only")),
        ("lora_bias", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("alpha_pattern", json!({"v_(": 4})),
        ("a_later_version's", json!(1)),
        ("a_later_version's", json!(true)),
        ("loftq_config", json!({"loftq_bits": 4})),
        ("trainable_token_indices", json!([3])),
        ("target_parameters", json!(["experts"])),
        ("layer_replication", json!([[0, 1]])),
        ("fan_in_fan_out", json!(true)),
        ("init_lora_weights", json!("pissa")),
        ("use_qalora", json!(true)),
        ("peft_type", json!("LOHA")),
    ] {
        let flaw = open(&json!({ setting: value }), &[A, B]).unwrap_err();
        let named = matches!(&flaw, PeftFlaw::Setting { setting: named, .. } if named == setting);
        assert!(named, "{flaw}");
    }
    for settings in [
        // PEFT turns such an adapter off, but llama.cpp takes an alpha of 0 for a factor of 1. The last one is 0 in
        // f32.
        json!({"lora_alpha": 0}),
        json!({"lora_alpha": -0.0}),
        json!({"lora_alpha": 1e-60}),
    ] {
        assert!(
            matches!(open(&settings, &[A, B]), Err(PeftFlaw::Setting { .. })),
            "{settings}"
        );
    }
    for settings in [
        json!({"r": -1}),
        json!({"lora_alpha": "8"}),
        json!({"r": null}),
    ] {
        assert!(
            matches!(open(&settings, &[A, B]), Err(PeftFlaw::Config(_))),
            "{settings}"
        );
    }
}

#[test]
fn tensors_outside_of_lora_pairs_are_refused_by_name() {
    let flaw = |names: &[&str]| open(&json!({}), names).unwrap_err();
    let q = "base_model.model.model.layers.0.self_attn.q_proj";
    for other in [
        format!("{q}.lora_magnitude_vector.weight"),
        format!("{q}.weight"),
        format!("{q}.lora_A.bias"),
        "model.layers.0.self_attn.q_proj.lora_A.weight".to_owned(),
    ] {
        assert!(
            matches!(flaw(&[A, B, &other]), PeftFlaw::Tensor(_)),
            "{other}"
        );
    }
    let embedding = "base_model.model.model.embed_tokens.lora_A.weight";
    assert!(matches!(flaw(&[A, B, embedding]), PeftFlaw::Module { .. }));
    assert!(matches!(flaw(&[A]), PeftFlaw::Half(_)));
    let again = A.replace("model.model.", "model.");
    assert!(matches!(flaw(&[A, B, &again]), PeftFlaw::Twice(_)));
    // Two adapters of the same module.
    let named = |adapter| [A, B].map(|name| name.replace(".weight", &format!(".{adapter}.weight")));
    let [[a, b], [other_a, other_b]] = ["ann", "bob"].map(named);
    assert_eq!(
        flaw(&[&a, &b, &other_a, &other_b]),
        PeftFlaw::Names("ann".into(), "bob".into())
    );
    assert!(matches!(flaw(&[]), PeftFlaw::Adapter(_)));
    let others = [A, B].map(|name| {
        name.replace("q_proj.", "k_proj.")
            .replace(".weight", ".ann.weight")
    });
    let flaw = flaw(&[A, B, &others[0], &others[1]]);
    assert_eq!(flaw, PeftFlaw::Names(String::new(), "ann".into()));
    let rank = open(&json!({"rank_pattern": {"q_proj": 2}}), &[A, B]);
    let module = "model.layers.0.self_attn.q_proj".to_owned();
    let expected = PeftFlaw::Rank {
        module,
        got: 4,
        expected: 2,
    };
    assert_eq!(rank, Err(expected));
}

#[test]
fn a_base_that_does_not_fit_is_refused() {
    let folder = Folder::new();
    let path = folder.join("peft");
    peft(&path, &json!({}), &[A, B]);
    let other = base(&folder, "phi3");
    assert!(matches!(
        Adapter::open_peft(&path, &other),
        Err(Error::Peft { .. })
    ));
    let metadata = [("general.architecture".to_owned(), Value::from("mamba"))];
    let unknown = folder.join("mamba.gguf");
    gguf::write(&unknown, &metadata, &[]).unwrap();
    let unknown = Gguf::open(&unknown).unwrap();
    let error = Adapter::open_peft(&path, &unknown).unwrap_err();
    assert!(
        error.to_string().contains(r#"of the family "mamba""#),
        "{error}"
    );
    assert!(matches!(
        Adapter::open_peft(&folder.join("nowhere"), &other),
        Err(Error::Missing { .. })
    ));
}

/// An adapter of all linear layers of Gemma 4 has one that llama.cpp loads and does not apply.
#[test]
fn a_module_that_llama_cpp_does_not_apply_is_left_out() {
    let folder = Folder::new();
    let base = base(&folder, "gemma4");
    let path = folder.join("peft");
    let outside = "base_model.model.model.language_model.per_layer_model_projection";
    let [a, b] = ["lora_A", "lora_B"].map(|half| format!("{outside}.{half}.weight"));
    peft(&path, &json!({}), &[A, B]);
    assert_eq!(left_out(&path, &base).unwrap(), None);
    peft(&path, &json!({}), &[A, B, &a, &b]);
    let adapter = Adapter::open_peft(&path, &base).unwrap();
    let names: Vec<_> = adapter.tensors.iter().map(LoraPair::name).collect();
    assert_eq!(names, ["blk.0.attn_q.weight"]);
    let module = &outside["base_model.model.".len()..];
    assert_eq!(left_out(&path, &base).unwrap().as_deref(), Some(module));
}

/// A base has one value head of each key head, then a second of each; PEFT's file has those of a key head side by side.
#[test]
fn value_heads_are_in_transformers_order_in_peft() {
    let folder = Folder::new();
    let base = base(&folder, "qwen35");
    let peft = folder.join("peft");
    adapter(&base, false)
        .write_peft(&peft, &base, "the base", None)
        .unwrap();
    let weights = SafeTensors::open(&peft.join("adapter_model.safetensors")).unwrap();
    let values = |module: &str, half: &str| -> Vec<f32> {
        let name =
            format!("base_model.model.model.layers.0.linear_attn.{module}.lora_{half}.weight");
        let tensor = weights.tensors.iter().find(|it| it.name == name).unwrap();
        let bytes = weights.read(tensor).unwrap();
        let values = bytes.as_chunks().0.iter().map(|&it| f32::from_le_bytes(it));
        values.collect()
    };
    // The third tensor of the base has a row of two numbers for each of four heads.
    let rows = [0, 2, 1, 3].map(|row| [200 + 2 * row, 201 + 2 * row].map(|i| i as f32));
    assert_eq!(values("in_proj_a", "B"), rows.concat());
    // The fourth has two columns for each of them, in each of two rows.
    let columns = [0, 1, 4, 5, 2, 3, 6, 7].map(|col| (300 + col) as f32);
    assert_eq!(values("out_proj", "A")[..8], columns);
    // The second has eight rows of queries and keys before those of the heads.
    let rows = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
        .map(|row| [100 + 2 * row, 101 + 2 * row].map(|i| i as f32));
    assert_eq!(values("in_proj_qkv", "B"), rows.concat());
}
