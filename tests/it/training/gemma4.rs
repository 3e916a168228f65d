//! Training on Gemma 4: models like E2B and like the larger ones, and files of either that are refused.

use cope_convert::gguf::{self, Array, Gguf, TensorData, Value};
use cope_llama::llama::Model;
use cope_llama::train::WeightType;
use cope_llama::train::lora::{LoraConfig, TargetModule};
use cope_llama::train::model::TrainModel;

use super::mixers::check_logits;
use super::{largest_difference, train_logits};
use crate::fixture::Fixture;
use crate::tiny::{Size, TinyModel, values_of};

fn gemma4(size: Size) -> TinyModel {
    TinyModel {
        architecture: "gemma4",
        size,
        ..TinyModel::default()
    }
}

/// Replaces a setting.
fn set(metadata: &mut Vec<(String, Value)>, key: &str, value: Value) {
    let key = format!("gemma4.{key}");
    metadata.retain(|it| it.0 != key);
    metadata.push((key, value));
}

#[test]
fn logits_of_gemma_4_agree_with_llama_cpp() {
    for (size, tied, fused) in [
        (Size::Small, true, false),
        (Size::Small, false, true),
        (Size::Large, true, false),
        (Size::Large, false, true),
    ] {
        let tiny = TinyModel {
            tied,
            fused,
            ..gemma4(size)
        };
        check_logits(tiny, |_| ());
    }
}

/// Without a soft cap in the file, llama.cpp's is 30, and a part of each head may be rotated in blocks of both kinds.
#[test]
fn settings_of_gemma_4_have_llama_cpps_defaults() {
    let model = check_logits(gemma4(Size::Small), |metadata| {
        metadata.retain(|it| {
            !it.0.ends_with("final_logit_softcapping") && !it.0.ends_with("freq_base_swa")
        });
        set(metadata, "rope.dimension_count", Value::U32(24));
        set(metadata, "rope.dimension_count_swa", Value::U32(8));
    });
    let fixture = Fixture::of(gemma4(Size::Small));
    let capped = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
    let tokens: Vec<_> = (30..50).collect();
    let logits = |model| train_logits(model, &tokens, None);
    assert!(largest_difference(&logits(&model), &logits(&capped)) > 0.1);
}

/// Files of some converters hold keys and values of blocks that use those of earlier ones. llama.cpp does not use them.
#[test]
fn keys_of_blocks_that_use_earlier_ones_are_left_alone() {
    let fixture = Fixture::of(gemma4(Size::Small));
    let file = &fixture.base;
    let mut tensors: Vec<_> = (file.tensors.iter())
        .map(|it| (it.name.clone(), it.shape.clone(), values_of(file, it)))
        .collect();
    for (name, shape) in [
        ("attn_k", vec![64, 32]),
        ("attn_v", vec![64, 32]),
        ("attn_k_norm", vec![16]),
    ] {
        let values = vec![0.3; shape.iter().product::<u64>() as usize];
        tensors.push((format!("blk.2.{name}.weight"), shape, values));
    }
    let data: Vec<_> = (tensors.iter())
        .map(|(name, shape, values)| TensorData::f32(name, shape, values))
        .collect();
    let path = fixture.folder.path().join("more.gguf");
    gguf::write(&path, &file.metadata, &data).unwrap();
    Model::load(&path, None).unwrap();
    let tokens: Vec<_> = (30..50).collect();
    let [with, without] = [&Gguf::open(&path).unwrap(), file].map(|file| {
        let model = TrainModel::load(file, WeightType::F32).unwrap();
        let config = LoraConfig {
            rank: 1,
            lora_alpha: 1.0,
            target_modules: vec![TargetModule::K],
        };
        assert_eq!(model.lora(&config, 1).unwrap().variables().len(), 4);
        train_logits(&model, &tokens, None)
    });
    assert_eq!(with, without);
}

#[test]
fn a_mixture_of_experts_is_refused_with_what_it_can_be_used_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("experts.gguf");
    gemma4(Size::Small).write_edited(&path, |metadata| {
        set(metadata, "expert_count", Value::U32(8));
    });
    let refused = TrainModel::load(&Gguf::open(&path).unwrap(), WeightType::F32);
    let message = refused.err().unwrap().to_string();
    let end = "experts.gguf: the setting gemma4.expert_count is not supported in training, and its model can be used for chats without an adapter";
    assert!(message.ends_with(end), "{message}");
}

/// On each of these, llama.cpp would end the process, or use other keys than the model was trained with.
#[test]
fn unsound_settings_are_refused_before_llama_cpp_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unsound.gguf");
    let flags = |layers: [bool; 4]| Value::Array(Array::Bool(layers.into()));
    let counts = |counts: [i32; 4]| Value::Array(Array::I32(counts.into()));
    for (key, value, flaw) in [
        (
            "attention.sliding_window_pattern",
            Value::U32(2),
            "its attention.sliding_window_pattern is not a list",
        ),
        (
            "attention.sliding_window_pattern",
            flags([false, true, false, true]),
            "its last 2 of 4 blocks share keys and values",
        ),
        (
            "attention.sliding_window_pattern",
            flags([false; 4]),
            "no block with sliding attention",
        ),
        (
            "attention.shared_kv_layers",
            Value::U32(3),
            "its last 3 of 4 blocks share keys and values",
        ),
        (
            "attention.shared_kv_layers",
            Value::U32(9),
            "its last 9 of 4 blocks share keys and values",
        ),
        (
            "attention.head_count_kv",
            counts([2, 2, 1, 2]),
            "its block 2 uses the keys of a block with another number of key heads",
        ),
        (
            "attention.value_length_swa",
            Value::U32(8),
            "have 16 features, and their values 8",
        ),
        (
            "rope.dimension_count_swa",
            Value::U32(18),
            "RoPE cannot rotate 18 of a head's 16 features",
        ),
        (
            "attention.sliding_window",
            Value::U32(0),
            "its sliding window has no tokens",
        ),
    ] {
        gemma4(Size::Small).write_edited(&path, |metadata| set(metadata, key, value.clone()));
        let refused = Model::load(&path, None).err();
        let message = refused.expect(flaw).to_string();
        assert!(message.contains(flaw), "{key} {value:?}: {message}");
    }
}
