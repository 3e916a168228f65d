//! Tests of malformed adapters: each fault, and the error for it.

use std::fs;

use cope_convert::gguf::{self, GgmlType, TensorData, Value};
use cope_convert::{Adapter, AdapterFlaw, Error, GgufFlaw, LoraTensor, Matrix};
use proptest::prelude::*;

use crate::files::{Folder, adapter, write_model};

const Q: &str = "blk.0.attn_q.weight";
const A: &str = "blk.0.attn_q.weight.lora_a";
const B: &str = "blk.0.attn_q.weight.lora_b";
const VALUES: [f32; 64] = [0.5; 64];

/// An F32 tensor of the values above.
fn tensor(name: &str, shape: &[u64]) -> TensorData<'static> {
    TensorData::f32(
        name,
        shape,
        &VALUES[..shape.iter().product::<u64>() as usize],
    )
}

/// The metadata of an adapter, with one entry replaced or added.
fn metadata(key: &str, value: Value) -> Vec<(String, Value)> {
    let mut metadata = vec![
        ("general.type".to_owned(), Value::from("adapter")),
        ("general.architecture".to_owned(), Value::from("llama")),
        ("adapter.type".to_owned(), Value::from("lora")),
    ];
    metadata.retain(|(other, _)| other != key);
    metadata.push((key.to_owned(), value));
    metadata
}

/// The error on reading a file with this metadata and these tensors as an adapter.
fn error(metadata: &[(String, Value)], tensors: &[TensorData<'_>]) -> Error {
    let folder = Folder::new();
    let path = folder.join("adapter.gguf");
    gguf::write(&path, metadata, tensors).unwrap();
    Adapter::read_gguf(&path).expect_err("no good adapter")
}

fn flaw_with(metadata: &[(String, Value)], tensors: &[TensorData<'_>]) -> AdapterFlaw {
    match error(metadata, tensors) {
        Error::Adapter { flaw, .. } => flaw,
        other => panic!("expected a flaw, got {other}"),
    }
}

fn flaw(tensors: &[TensorData<'_>]) -> AdapterFlaw {
    flaw_with(&metadata("adapter.lora.alpha", Value::from(1_f32)), tensors)
}

fn good_pair() -> [TensorData<'static>; 2] {
    [tensor(A, &[4, 2]), tensor(B, &[2, 3])]
}

#[test]
fn a_model_is_not_an_adapter() {
    let folder = Folder::new();
    let path = folder.join("model.gguf");
    write_model(&path);
    let message = Adapter::read_gguf(&path).unwrap_err().to_string();
    assert_eq!(
        message.replace(&path.display().to_string(), "FILE"),
        "FILE is not a usable LoRA adapter: its general.type is missing, not \"adapter\"; \
         give an adapter's file, not a model's"
    );
    let general_type = Some("model".to_owned());
    assert_eq!(
        flaw_with(&metadata("general.type", Value::from("model")), &[]),
        AdapterFlaw::NotAnAdapter { general_type }
    );
}

#[test]
fn other_kinds_of_adapter_are_refused() {
    let control = metadata("adapter.type", Value::from("control"));
    let adapter_type = |name: &str| AdapterFlaw::Type {
        adapter_type: Some(name.to_owned()),
    };
    assert_eq!(flaw_with(&control, &good_pair()), adapter_type("control"));
    let alora = metadata("adapter.alora.invocation_tokens", Value::from(vec![1_u32]));
    assert_eq!(flaw_with(&alora, &good_pair()), adapter_type("alora"));
}

#[test]
fn settings_of_another_type_are_refused_before_llama_cpp_sees_them() {
    // llama.cpp would end the process on them.
    let alpha = error(
        &metadata("adapter.lora.alpha", Value::from(1_u32)),
        &good_pair(),
    );
    assert!(matches!(
        alpha,
        Error::Gguf {
            flaw: GgufFlaw::KeyType {
                expected: "f32",
                ..
            },
            ..
        }
    ));
    let architecture = error(
        &metadata("general.architecture", Value::from(1_u32)),
        &good_pair(),
    );
    assert!(matches!(
        architecture,
        Error::Gguf {
            flaw: GgufFlaw::KeyType {
                expected: "string",
                ..
            },
            ..
        }
    ));
}

#[test]
fn an_adapter_has_tensors() {
    assert_eq!(flaw(&[]), AdapterFlaw::Empty);
}

#[test]
fn tensors_are_halves_of_pairs() {
    for name in [
        "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight",
        "blk.0.attn_q.weight.lora_c",
    ] {
        assert_eq!(
            flaw(&[tensor(name, &[4, 2])]),
            AdapterFlaw::Suffix(name.to_owned())
        );
    }
    let half = |missing| AdapterFlaw::Half {
        tensor: Q.to_owned(),
        missing,
    };
    assert_eq!(flaw(&[tensor(A, &[4, 2])]), half(".lora_b"));
    assert_eq!(flaw(&[tensor(B, &[2, 3])]), half(".lora_a"));
}

#[test]
fn the_token_embedding_is_refused() {
    let pair = [
        tensor("token_embd.weight.lora_a", &[4, 2]),
        tensor("token_embd.weight.lora_b", &[2, 3]),
    ];
    assert_eq!(
        flaw(&pair),
        AdapterFlaw::TokenEmbedding("token_embd.weight".to_owned())
    );
}

#[test]
fn halves_of_types_that_no_adapter_has_are_refused() {
    let pair = [
        TensorData::bytes(A, &[256, 2], GgmlType::Q4_K, &[0; 288]),
        tensor(B, &[2, 3]),
    ];
    let ggml_type = GgmlType::Q4_K;
    assert_eq!(
        flaw(&pair),
        AdapterFlaw::TensorType {
            tensor: A.to_owned(),
            ggml_type
        }
    );
}

#[test]
fn halves_are_matrices() {
    let pair = [tensor(A, &[4, 2, 2]), tensor(B, &[2, 3])];
    assert_eq!(
        flaw(&pair),
        AdapterFlaw::NotMatrix {
            tensor: A.to_owned(),
            shape: vec![4, 2, 2]
        }
    );
}

#[test]
fn ranks_agree() {
    let mismatched = [tensor(A, &[4, 2]), tensor(B, &[3, 3])];
    assert_eq!(
        flaw(&mismatched),
        AdapterFlaw::Pair {
            tensor: Q.to_owned(),
            a: 2,
            b: 3
        }
    );
    let transposed = [tensor(A, &[2, 4]), tensor(B, &[3, 2])];
    assert_eq!(
        flaw(&transposed),
        AdapterFlaw::Pair {
            tensor: Q.to_owned(),
            a: 4,
            b: 3
        }
    );
}

#[test]
fn ranks_are_low() {
    let values = vec![0.0; 5000];
    let pair = [
        TensorData::f32(A, &[1, 5000], &values),
        TensorData::f32(B, &[5000, 1], &values),
    ];
    assert_eq!(
        flaw(&pair),
        AdapterFlaw::Rank {
            tensor: Q.to_owned(),
            got: 5000,
            limit: 4096
        }
    );
}

#[test]
fn numbers_are_finite() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = [0.5; 8];
        values[5] = value;
        let pair = [TensorData::f32(A, &[4, 2], &values), tensor(B, &[2, 3])];
        assert_eq!(flaw(&pair), AdapterFlaw::NotFinite(A.to_owned()));
        for key in ["adapter.lora.alpha", "cope.contrast", "cope.plausibility"] {
            let flaw = flaw_with(&metadata(key, Value::from(value)), &good_pair());
            assert_eq!(flaw, AdapterFlaw::NotFinite(key.to_owned()));
        }
    }
}

#[test]
fn a_recorded_base_hash_must_be_a_sha_256() {
    for hash in [
        String::new(),
        "0".repeat(63),
        "G".repeat(64),
        "é".repeat(32),
        "A".repeat(64),
    ] {
        let metadata = metadata("cope.base_sha256", Value::from(hash));
        assert_eq!(flaw_with(&metadata, &good_pair()), AdapterFlaw::BaseHash);
    }
}

#[test]
fn a_message_stays_short_and_on_one_line() {
    let metadata = metadata("general.type", Value::from("line\n".repeat(1000)));
    let message = error(&metadata, &good_pair()).to_string();
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
}

/// The error on writing an adapter with these pairs. No file may be left behind.
fn write_error(tensors: Vec<LoraTensor>) -> Error {
    let folder = Folder::new();
    let adapter = Adapter {
        tensors,
        ..adapter()
    };
    let error = adapter
        .write_gguf(&folder.join("adapter.gguf"))
        .unwrap_err();
    assert_eq!(folder.names(), [""; 0]);
    error
}

fn write_flaw(tensors: Vec<LoraTensor>) -> AdapterFlaw {
    match write_error(tensors) {
        Error::Adapter { flaw, .. } => flaw,
        other => panic!("expected a flaw, got {other}"),
    }
}

/// A good pair, with `A` of another shape and with `n` values.
fn pair_with_a(rows: usize, cols: usize, n: usize) -> LoraTensor {
    let data = vec![0.0; n];
    LoraTensor {
        a: Matrix { rows, cols, data },
        ..adapter().tensors.remove(0)
    }
}

#[test]
fn an_adapter_without_tensors_is_not_written() {
    assert_eq!(write_flaw(vec![]), AdapterFlaw::Empty);
}

#[test]
fn a_pair_of_rank_0_is_not_written() {
    let b = Matrix {
        rows: 3,
        cols: 0,
        data: vec![],
    };
    let pair = LoraTensor {
        b,
        ..pair_with_a(0, 4, 0)
    };
    assert_eq!(
        write_flaw(vec![pair]),
        AdapterFlaw::Rank {
            tensor: Q.to_owned(),
            got: 0,
            limit: 4096
        }
    );
}

#[test]
fn a_matrix_with_too_few_values_is_not_written() {
    assert_eq!(
        write_flaw(vec![pair_with_a(2, 4, 7)]),
        AdapterFlaw::DataLength {
            tensor: A.to_owned(),
            rows: 2,
            cols: 4,
            got: 7
        }
    );
}

#[test]
fn a_matrix_without_columns_is_not_written() {
    assert!(matches!(
        write_error(vec![pair_with_a(2, 0, 0)]),
        Error::Gguf {
            flaw: GgufFlaw::Shape { .. },
            ..
        }
    ));
}

#[test]
fn two_pairs_for_one_tensor_are_not_written() {
    let pair = adapter().tensors.remove(0);
    assert!(matches!(
        write_error(vec![pair.clone(), pair]),
        Error::Gguf {
            flaw: GgufFlaw::DuplicateTensor(_),
            ..
        }
    ));
}

#[test]
fn truncation_at_any_byte_is_an_error() {
    let folder = Folder::new();
    let path = folder.join("adapter.gguf");
    adapter().write_gguf(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        assert!(
            Adapter::read_gguf(&folder.file(&bytes[..length])).is_err(),
            "cut to {length} bytes"
        );
    }
    assert_eq!(Adapter::read_gguf(&folder.file(&bytes)).unwrap(), adapter());
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let folder = Folder::new();
        let path = folder.join("adapter.gguf");
        adapter().write_gguf(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        if let Err(error) = Adapter::read_gguf(&folder.file(&bytes)) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
