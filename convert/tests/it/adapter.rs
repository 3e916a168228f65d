//! Tests of adapters: their file, their scale, and the check against a base.

use std::fs;

use cope_convert::gguf::{self, GgmlType, Gguf, TensorData, Value};
use cope_convert::{Adapter, LoraTensor, Matrix, Misfit, RopeFactors};
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::files::{Folder, adapter, write_model};

fn finite() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |value| value.is_finite())
}

fn matrix(rows: usize, cols: usize) -> impl Strategy<Value = Matrix> {
    vec(finite(), rows * cols).prop_map(move |data| Matrix { rows, cols, data })
}

fn pairs() -> impl Strategy<Value = Vec<LoraTensor>> {
    (1..5_usize).prop_flat_map(|rank| {
        let pair = (1..9_usize, 1..9_usize)
            .prop_flat_map(move |(in_dim, out_dim)| (matrix(rank, in_dim), matrix(out_dim, rank)));
        vec(pair, 1..4).prop_map(|pairs| {
            let name = |i| format!("blk.{i}.ffn_up.weight");
            pairs
                .into_iter()
                .enumerate()
                .map(|(i, (a, b))| LoraTensor {
                    name: name(i),
                    a,
                    b,
                })
                .collect()
        })
    })
}

proptest! {
    #[test]
    fn any_adapter_survives(
        tensors in pairs(),
        lora_alpha in finite(),
        contrast in prop::option::of(finite()),
        plausibility in prop::option::of(finite()),
        base_sha256 in prop::option::of("[0-9a-f]{64}"),
        rope_factors in prop::option::of(prop::sample::select(vec![RopeFactors::Short, RopeFactors::Long])),
        name in prop::option::of(any::<String>()),
    ) {
        let folder = Folder::new();
        let (first, second) = (folder.join("first.gguf"), folder.join("second.gguf"));
        let architecture = "llama".to_owned();
        let task_sha256 = base_sha256.as_ref().map(|hash: &String| hash.chars().rev().collect());
        let written = Adapter { architecture, lora_alpha, base_sha256, task_sha256, contrast, plausibility, rope_factors, name, tensors };
        written.write_gguf(&first).unwrap();
        let read = Adapter::read_gguf(&first).unwrap();
        prop_assert_eq!(&read, &written);
        read.write_gguf(&second).unwrap();
        prop_assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    }
}

#[test]
fn the_file_is_as_llama_cpp_wants_it() {
    let folder = Folder::new();
    let path = folder.join("adapter.gguf");
    adapter().write_gguf(&path).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.str("general.type").unwrap(), "adapter");
    assert_eq!(file.architecture().unwrap(), "llama");
    assert_eq!(file.str("adapter.type").unwrap(), "lora");
    assert_eq!(file.get("adapter.lora.alpha"), Some(&Value::F32(4.0)));
    // ne = [in, r] and [r, out].
    assert_eq!(
        file.tensor("blk.0.attn_q.weight.lora_a").unwrap().shape,
        [4, 2]
    );
    assert_eq!(
        file.tensor("blk.0.attn_q.weight.lora_b").unwrap().shape,
        [2, 3]
    );
}

#[test]
fn tensors_are_written_in_the_order_of_their_names() {
    let folder = Folder::new();
    let (sorted, shuffled) = (folder.join("sorted.gguf"), folder.join("shuffled.gguf"));
    let mut adapter = adapter();
    adapter.tensors.push(LoraTensor {
        name: "blk.1.attn_q.weight".to_owned(),
        ..adapter.tensors[0].clone()
    });
    adapter.write_gguf(&sorted).unwrap();
    adapter.tensors.reverse();
    adapter.write_gguf(&shuffled).unwrap();
    assert_eq!(fs::read(sorted).unwrap(), fs::read(shuffled).unwrap());
}

#[test]
fn half_floats_and_left_out_dimensions_are_read() {
    let folder = Folder::new();
    let path = folder.join("adapter.gguf");
    let metadata = [
        ("general.type".to_owned(), Value::from("adapter")),
        ("general.architecture".to_owned(), Value::from("llama")),
        ("adapter.type".to_owned(), Value::from("lora")),
    ];
    let a = [1.5, -2.0]
        .map(f16::from_f32)
        .map(f16::to_le_bytes)
        .concat();
    let b = [0.25, 3.0, -1.0]
        .map(bf16::from_f32)
        .map(bf16::to_le_bytes)
        .concat();
    // ggml's own writer gives an A of rank 1 a single dimension.
    let tensors = [
        TensorData::bytes("blk.0.attn_q.weight.lora_a", &[2], GgmlType::F16, &a),
        TensorData::bytes("blk.0.attn_q.weight.lora_b", &[1, 3, 1], GgmlType::BF16, &b),
    ];
    gguf::write(&path, &metadata, &tensors).unwrap();
    let adapter = Adapter::read_gguf(&path).unwrap();
    let pair = &adapter.tensors[0];
    assert_eq!(
        pair.a,
        Matrix {
            rows: 1,
            cols: 2,
            data: vec![1.5, -2.0]
        }
    );
    assert_eq!(
        pair.b,
        Matrix {
            rows: 3,
            cols: 1,
            data: vec![0.25, 3.0, -1.0]
        }
    );
    // Without an alpha llama.cpp applies the product with a factor of 1.
    assert_eq!(
        (adapter.rank(), adapter.lora_scale(1).to_bits()),
        (1, 1_f32.to_bits())
    );
}

#[test]
fn lora_scale_is_alpha_over_rank_or_1() {
    let scale = |lora_alpha| {
        Adapter {
            lora_alpha,
            ..adapter()
        }
        .lora_scale(2)
        .to_bits()
    };
    assert_eq!(adapter().rank(), 2);
    assert_eq!(scale(4.0), 2_f32.to_bits());
    assert_eq!(scale(1.0), 0.5_f32.to_bits());
    assert_eq!(scale(0.0), 1_f32.to_bits());
}

/// The difference between an adapter and the model of the tests, and the message without the model's path.
fn misfit(adapter: &Adapter, base_sha256: &str) -> (Misfit, String) {
    let folder = Folder::new();
    let path = folder.join("model.gguf");
    write_model(&path);
    let error = adapter
        .check_fits(&Gguf::open(&path).unwrap(), base_sha256)
        .unwrap_err();
    let message = error
        .to_string()
        .replace(&path.display().to_string(), "BASE");
    match error {
        cope_convert::Error::Misfit { misfit, .. } => (misfit, message),
        other => panic!("expected a misfit, got {other}"),
    }
}

#[test]
fn an_adapter_fits_its_base() {
    let folder = Folder::new();
    let path = folder.join("model.gguf");
    write_model(&path);
    let base = Gguf::open(&path).unwrap();
    adapter()
        .check_fits(&base, &"0123456789abcdef".repeat(4))
        .unwrap();
    Adapter {
        base_sha256: None,
        ..adapter()
    }
    .check_fits(&base, &"f".repeat(64))
    .unwrap();
}

#[test]
fn another_base_is_refused_with_both_hashes() {
    let (_, message) = misfit(&adapter(), &"f".repeat(64));
    assert_eq!(
        message,
        "the adapter does not fit BASE: it was trained on the base with SHA-256 0123456789ab… and this one has \
         ffffffffffff…; give that base, or train again on this one"
    );
}

#[test]
fn another_architecture_is_refused() {
    let (_, message) = misfit(
        &Adapter {
            architecture: "qwen2".to_owned(),
            ..adapter()
        },
        "",
    );
    assert_eq!(
        message,
        "the adapter does not fit BASE: it was trained on the architecture \"qwen2\" and the base is \"llama\"; \
         give the base that it was trained on"
    );
}

#[test]
fn tensors_that_the_base_lacks_are_refused() {
    let mut adapter = Adapter {
        base_sha256: None,
        ..adapter()
    };
    adapter.tensors[0].name = "blk.9.attn_q.weight".to_owned();
    assert_eq!(
        misfit(&adapter, "").0,
        Misfit::MissingTensor("blk.9.attn_q.weight".to_owned())
    );
}

#[test]
fn tensors_of_other_dimensions_are_refused() {
    let mut adapter = Adapter {
        base_sha256: None,
        ..adapter()
    };
    adapter.tensors[0].b = Matrix {
        rows: 5,
        cols: 2,
        data: vec![0.0; 10],
    };
    let tensor = adapter.tensors[0].name.clone();
    assert_eq!(
        misfit(&adapter, "").0,
        Misfit::Shape {
            tensor,
            expected: [4, 5],
            got: vec![4, 3]
        }
    );
}
