//! Models whose queries, keys and values are one matrix.

use cope_convert::gguf::{self, Gguf, TensorData};
use cope_llama::llama::{Context, Model};
use cope_llama::train::lora::TargetModule;
use cope_llama::train::model::TrainModel;
use cope_llama::train::{TrainConfig, WeightType};

use super::{largest_difference, train_logits};
use crate::fixture::{Fixture, exact};
use crate::tiny::{FAMILIES, N_EMBD, TinyModel, family_adapter, values_of};

const TOKENS: [i32; 12] = [20, 27, 34, 90, 41, 55, 300, 62, 69, 76, 301, 83];

#[test]
fn a_fused_model_gives_the_logits_of_the_same_model_with_separate_matrices() {
    for architecture in FAMILIES {
        let logits = [false, true].map(|fused| {
            let fixture = Fixture::of(TinyModel {
                architecture,
                fused,
                ..TinyModel::default()
            });
            [WeightType::F32, WeightType::Bf16, WeightType::Quantized].map(|weight_type| {
                let model = TrainModel::load(&fixture.base, weight_type).unwrap();
                train_logits(&model, &TOKENS, None)
            })
        });
        assert_eq!(logits[0], logits[1], "{architecture}");
    }
}

#[test]
fn a_task_adapter_of_fused_layers_is_added_to_each() {
    let tiny = TinyModel {
        fused: true,
        ..TinyModel::default()
    };
    let fixture = Fixture::of(tiny);
    let task = family_adapter("llama", 8, 2, &["attn_qkv"]);
    let theirs = fixture.twin(&task, 1.0).user.extend_all(&TOKENS).unwrap();
    let model = TrainModel::load_with_task(
        &fixture.base,
        WeightType::F32,
        Some(&task),
        None,
        &mut || Ok(()),
    )
    .unwrap();
    assert!(largest_difference(&train_logits(&model, &TOKENS, None), &theirs) < 1e-3);
}

/// llama.cpp adds separate biases to fused layers where all three are there.
#[test]
fn separate_biases_of_fused_layers_are_read_as_llama_cpp_reads_them() {
    let fixture = Fixture::of(TinyModel {
        architecture: "qwen2",
        ..TinyModel::default()
    });
    let fused = Fixture::of(TinyModel {
        architecture: "qwen2",
        fused: true,
        ..TinyModel::default()
    });
    let is_bias = |name: &str| name.contains(".bias");
    let with_biases = |keeps: fn(&str) -> bool| {
        let weights = fused.base.tensors.iter().map(|it| (&fused.base, it));
        let biases = fixture.base.tensors.iter().map(|it| (&fixture.base, it));
        let tensors: Vec<_> = weights
            .filter(|(_, it)| !is_bias(&it.name))
            .chain(biases.filter(|(_, it)| is_bias(&it.name) && keeps(&it.name)))
            .map(|(file, it)| (it, values_of(file, it)))
            .collect();
        let data: Vec<_> = tensors
            .iter()
            .map(|(it, values)| TensorData::f32(it.name.as_str(), &it.shape, values))
            .collect();
        let path = fused.folder.path().join("biases.gguf");
        gguf::write(&path, &fused.base.metadata, &data).unwrap();
        (
            Model::load(&path, None).unwrap(),
            Gguf::open(&path).unwrap(),
        )
    };
    let (runtime, file) = with_biases(|_| true);
    let mut context = Context::new(&runtime, None, &exact()).unwrap();
    let theirs = context.extend_all(&TOKENS).unwrap();
    let model = TrainModel::load(&file, WeightType::F32).unwrap();
    assert!(largest_difference(&train_logits(&model, &TOKENS, None), &theirs) < 1e-3);
    // Of two biases llama.cpp adds none.
    let (_, file) = with_biases(|name| !name.contains("attn_k"));
    let refused = TrainModel::load(&file, WeightType::F32).err().unwrap();
    assert!(
        refused.to_string().contains("blk.0.attn_q.bias"),
        "{refused}"
    );
}

#[test]
fn an_adapter_changes_fused_layers_together_or_not_at_all() {
    let fixture = Fixture::of(TinyModel {
        fused: true,
        ..TinyModel::default()
    });
    let model = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
    let lora = |targets: &[TargetModule]| {
        let config = cope_llama::train::lora::LoraConfig {
            target_modules: targets.to_vec(),
            ..TrainConfig::default().lora
        };
        model.lora(&config, 1)
    };
    let all = lora(&TargetModule::ALL).unwrap();
    assert_eq!(all.config().target_modules, TargetModule::ALL[..7]);
    let names: Vec<_> = all.variables().into_iter().map(|it| it.0).collect();
    assert_eq!(names[0], "blk.0.attn_qkv.weight.lora_a");
    assert_eq!(names.len(), 2 * 5 * 2);
    let without = lora(&[TargetModule::O, TargetModule::Up]).unwrap();
    assert_eq!(without.variables().len(), 2 * 2 * 2);
    let refused = lora(&[TargetModule::Q, TargetModule::V]).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the model holds q, k, v in one tensor, blk.0.attn_qkv.weight; an adapter changes all of them or none"
    );
}

/// llama.cpp takes the layers of Phi-3 as one matrix or as three, and would load a block that has neither.
#[test]
fn a_phi_3_with_separate_layers_runs_and_one_without_is_refused() {
    let fixture = Fixture::of(TinyModel {
        architecture: "phi3",
        ..TinyModel::default()
    });
    let file = &fixture.base;
    let written = |layers: &[(&str, std::ops::Range<usize>)]| {
        let mut tensors = Vec::new();
        for it in &file.tensors {
            let values = values_of(file, it);
            let Some(block) = it.name.strip_suffix("attn_qkv.weight") else {
                tensors.push((it.name.clone(), it.shape.clone(), values));
                continue;
            };
            for (name, rows) in layers {
                let shape = vec![N_EMBD as u64, rows.len() as u64];
                let values = values[rows.start * N_EMBD..rows.end * N_EMBD].to_vec();
                tensors.push((format!("{block}{name}.weight"), shape, values));
            }
        }
        let data: Vec<_> = tensors
            .iter()
            .map(|(name, shape, values)| TensorData::f32(name, shape, values))
            .collect();
        let path = fixture.folder.path().join("separate.gguf");
        gguf::write(&path, &file.metadata, &data).unwrap();
        path
    };
    let path = written(&[("attn_q", 0..64), ("attn_k", 64..96), ("attn_v", 96..128)]);
    let runtime = Model::load(&path, None).unwrap();
    let mut context = Context::new(&runtime, None, &exact()).unwrap();
    let theirs = context.extend_all(&TOKENS).unwrap();
    let model = TrainModel::load(&Gguf::open(&path).unwrap(), WeightType::F32).unwrap();
    assert!(largest_difference(&train_logits(&model, &TOKENS, None), &theirs) < 1e-3);
    let refused = Model::load(&written(&[("attn_q", 0..64)]), None).unwrap_err();
    let flaw = "its tensor blk.0.attn_qkv.weight is missing";
    assert!(refused.to_string().ends_with(flaw), "{refused}");
}
