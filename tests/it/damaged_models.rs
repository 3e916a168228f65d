//! Models in valid GGUF format with wrong metadata: each is refused in one line that names the file. Unchecked, each of
//! them makes llama.cpp end the process.

use cope_convert::gguf::{Array, Value};
use cope_llama::llama::Model;

use crate::tiny::TinyModel;

/// Sets a metadata key, which may exist already.
fn set(metadata: &mut Vec<(String, Value)>, key: &str, value: Value) {
    metadata.retain(|entry| entry.0 != key);
    metadata.push((key.to_owned(), value));
}

/// The error on loading a tiny model with `entries` set in its metadata.
fn refusal(entries: &[(&str, Value)]) -> String {
    refusal_of(TinyModel::default(), entries)
}

fn refusal_of(tiny: TinyModel, entries: &[(&str, Value)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    tiny.write_edited(&path, |metadata| {
        for (key, value) in entries {
            set(metadata, key, value.clone());
        }
    });
    let message = Model::load(&path, None)
        .expect_err("a damaged model")
        .to_string();
    assert!(
        message.contains("damaged.gguf") && !message.contains('\n'),
        "{message}"
    );
    message
}

#[test]
fn contradictory_counts_are_refused() {
    let count = Value::U32;
    let layers = Value::Array(Array::U32(vec![1, 2]));
    let damages: &[&[(&str, Value)]] = &[
        &[("llama.block_count", count(0))],
        &[("llama.block_count", count(100_000))],
        &[("llama.nextn_predict_layers", count(3))],
        &[("llama.expert_count", count(8))],
        &[
            ("llama.expert_count", count(u32::MAX)),
            ("llama.expert_used_count", count(2)),
        ],
        &[("llama.expert_used_count", count(2))],
        &[("llama.expert_used_count", layers)],
        &[("llama.expert_group_count", count(2))],
        &[
            ("llama.expert_count", count(8)),
            ("llama.expert_used_count", count(2)),
            ("llama.expert_group_count", count(3)),
        ],
    ];
    for damage in damages {
        let message = refusal(damage);
        assert!(
            message.contains("layers") || message.contains("experts"),
            "{message}"
        );
    }
}

#[test]
fn invalid_epsilons_and_rope_scalings_are_refused() {
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    for value in [f32::NAN, -1.0] {
        assert!(refusal(&[(epsilon, Value::F32(value))]).contains("epsilon"));
    }
    assert!(refusal(&[("llama.rope.scaling.type", Value::from("cubic"))]).contains("cubic"));
}

#[test]
fn attention_that_the_family_does_not_have_is_refused() {
    let count = Value::U32;
    for (entries, flaw) in [
        (&[("llama.attention.head_count", count(3))][..], "share"),
        (&[("llama.attention.head_count_kv", count(0))], "share"),
        (&[("llama.attention.value_length", count(8))], "features"),
        (&[("llama.rope.dimension_count", count(8))], "rotate"),
        (&[("llama.context_length", count(0))], "context_length"),
        (&[("llama.rope.freq_base", Value::F32(0.0))], "freq_base"),
        (
            &[("llama.rope.scaling.factor", Value::F32(f32::NAN))],
            "factor",
        ),
    ] {
        let message = refusal(entries);
        assert!(message.contains(flaw), "{message}");
    }
}

#[test]
fn settings_that_a_family_cannot_compute_with_are_refused() {
    let full = || Value::Array(Array::Bool(vec![false; 2]));
    for (architecture, key, value, flaw) in [
        (
            "granite",
            "logit_scale",
            Value::F32(0.0),
            "logit_scale is 0",
        ),
        ("granite", "residual_scale", Value::F32(f32::NAN), "NaN"),
        ("gemma2", "attn_logit_softcapping", Value::F32(0.0), "is 0"),
        ("gemma2", "final_logit_softcapping", Value::F32(0.0), "is 0"),
        (
            "gemma2",
            "attention.sliding_window",
            Value::U32(0),
            "no tokens",
        ),
        (
            "gemma2",
            "attention.sliding_window_pattern",
            full(),
            "no block",
        ),
        (
            "olmo2",
            "attention.sliding_window_pattern",
            full(),
            "no block",
        ),
        ("olmo2", "attention.key_length", Value::U32(32), "features"),
        ("phi3", "attention.key_length", Value::U32(32), "features"),
        ("phi3", "rope.dimension_count", Value::U32(18), "rotate"),
        ("phi3", "embedding_length", Value::U32(66), "divided"),
        (
            "mistral3",
            "rope.scaling.yarn_beta_fast",
            Value::F32(-1.0),
            "beta_fast",
        ),
        ("smollm3", "rope.dimension_count", Value::U32(8), "rotate"),
    ] {
        let tiny = TinyModel {
            architecture,
            ..TinyModel::default()
        };
        let mut entries = vec![(key, value)];
        if key.ends_with("key_length") {
            entries.push(("attention.value_length", Value::U32(32)));
            entries.push(("rope.dimension_count", Value::U32(32)));
        }
        let entries = entries.into_iter();
        let entries = entries.map(|(key, value)| (format!("{architecture}.{key}"), value));
        let entries: Vec<_> = entries.collect();
        let entries = entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()));
        let message = refusal_of(tiny, &entries.collect::<Vec<_>>());
        assert!(message.contains(flaw), "{message}");
    }
}

#[test]
fn incomplete_vocabularies_are_refused() {
    let words = |words: &[&str]| {
        Value::Array(Array::String(
            words.iter().map(ToString::to_string).collect(),
        ))
    };
    let tokens = "tokenizer.ggml.tokens";
    assert!(refusal(&[(tokens, words(&["<unk>", "a", "a"]))]).contains("twice"));
    assert!(refusal(&[(tokens, words(&["<unk>", "a", "b"]))]).contains("bytes"));
    assert!(refusal(&[("tokenizer.ggml.model", Value::from("no_vocab"))]).contains("vocabulary"));
}

#[test]
fn files_that_are_no_text_models_are_refused() {
    assert!(refusal(&[("general.type", Value::from("adapter"))]).contains("adapter"));
    assert!(refusal(&[("split.count", Value::U16(2))]).contains("split"));
    assert!(refusal(&[("llama.attention.causal", Value::Bool(false))]).contains("embeds"));
    assert!(refusal(&[("general.architecture", Value::from("abacus"))]).contains("abacus"));
}

#[test]
fn a_refusal_by_llama_cpp_is_reported_with_its_reason() {
    let message = refusal(&[("llama.block_count", Value::U32(3))]);
    assert!(
        message.contains("llama.cpp failed to load the model"),
        "{message}"
    );
    let message = refusal(&[("llama.feed_forward_length", Value::U32(256))]);
    assert!(message.contains("shape"), "{message}");
}

#[test]
fn more_blocks_than_the_settings_have_are_named() {
    let message = refusal(&[("llama.block_count", Value::U32(1))]);
    let told = "its block_count is 1, and it has a tensor of one more block, blk.1.";
    assert!(message.contains(told), "{message}");
}

#[test]
fn counts_that_are_negative_to_llama_cpp_are_refused() {
    let gemma = TinyModel {
        architecture: "gemma3",
        ..TinyModel::default()
    };
    for (key, value, flaw) in [
        (
            "gemma3.attention.sliding_window",
            Value::U32(1 << 31),
            "sliding_window is 2147483648",
        ),
        (
            "gemma3.context_length",
            Value::U32(u32::MAX),
            "context_length is 4294967295",
        ),
        (
            "gemma3.rope.scaling.original_context_length",
            Value::U32(u32::MAX),
            "original_context_length is 4294967295",
        ),
        (
            "gemma3.rope.scaling.attn_factor",
            Value::F32(1e10),
            "attn_factor is 10000000000",
        ),
    ] {
        let message = refusal_of(gemma, &[(key, value)]);
        assert!(message.contains(flaw), "{message}");
    }
}

#[test]
fn a_vocabulary_that_no_model_of_the_family_has_is_refused() {
    for kind in ["t5", "none"] {
        let message = refusal(&[("tokenizer.ggml.model", kind.into())]);
        assert!(
            message.contains(&format!("its vocabulary is of the kind {kind:?}")),
            "{message}"
        );
    }
}
