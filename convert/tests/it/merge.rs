//! Tests of merging and requantizing, against results computed element by element.

use std::path::{Path, PathBuf};

use cope_convert::gguf::{self, Array, GgmlType, Gguf, TensorData, Value};
use cope_convert::quant::{dequantize, quantize};
use cope_convert::{
    Adapter, Error, LoraTensor, Matrix, MergeFlaw, Merged, merge, requantize, sha256,
};

use crate::files::{self, Folder};

const NAME: &str = "blk.0.ffn_up.weight";
const OTHER: &str = "blk.0.ffn_down.weight";
const N_IN: usize = 64;
const N_OUT: usize = 48;
const RANK: usize = 4;

fn values(n: usize, turn: f32, size: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * turn).sin() * size).collect()
}

/// A model with two matrices of a type. The second is half as large, and no adapter changes it.
fn model(folder: &Folder, ggml_type: GgmlType, bytes: &[u8]) -> PathBuf {
    let path = folder.join("model.gguf");
    let metadata = [
        ("general.architecture".to_owned(), Value::from("llama")),
        ("general.file_type".to_owned(), Value::from(3_u32)),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::from(vec!["a".to_owned()]),
        ),
    ];
    let [n_in, n_out] = [N_IN as u64, N_OUT as u64];
    let tensors = [
        TensorData::bytes(NAME, &[n_in, n_out], ggml_type, bytes),
        TensorData::bytes(
            OTHER,
            &[n_in, n_out / 2],
            ggml_type,
            &bytes[..bytes.len() / 2],
        ),
    ];
    gguf::write(&path, &metadata, &tensors).unwrap();
    path
}

fn adapter(turn: f32) -> Adapter {
    let matrix = |rows, cols, size| Matrix {
        rows,
        cols,
        data: values(rows * cols, turn, size),
    };
    Adapter {
        lora_alpha: 8.0,
        base_sha256: None,
        tensors: vec![LoraTensor {
            name: NAME.into(),
            a: matrix(RANK, N_IN, 0.1),
            b: matrix(N_OUT, RANK, 0.2),
        }],
        ..files::adapter()
    }
}

/// `factor · lora_alpha / rank · B A`, element by element.
fn change(adapter: &Adapter, factor: f32) -> Vec<f32> {
    let LoraTensor { a, b, .. } = &adapter.tensors[0];
    let scale = factor * adapter.lora_alpha / RANK as f32;
    let element = |row: usize, col: usize| -> f32 {
        let terms = (0..RANK).map(|r| b.data[row * RANK + r] * a.data[r * N_IN + col]);
        scale * terms.sum::<f32>()
    };
    (0..N_OUT * N_IN)
        .map(|i| element(i / N_IN, i % N_IN))
        .collect()
}

fn run(
    base: &Path,
    adapters: &[(Adapter, f32)],
    ggml_type: Option<GgmlType>,
    output: &Path,
) -> cope_convert::Result<Merged> {
    let hash = sha256(base)?;
    merge(
        &Gguf::open(base)?,
        &hash,
        adapters,
        ggml_type,
        output,
        &|_| Ok(()),
    )
}

/// The weights of a tensor, widened.
fn weights(path: &Path, name: &str) -> (GgmlType, Vec<f32>) {
    let file = Gguf::open(path).unwrap();
    let tensor = file.tensor(name).unwrap();
    let bytes = file.read(tensor).unwrap();
    (
        tensor.ggml_type,
        dequantize(tensor.ggml_type, &bytes).unwrap(),
    )
}

#[test]
fn a_model_in_another_type_has_its_weights_rounded_and_all_else_as_it_was() {
    let folder = Folder::new();
    let bytes = quantize(GgmlType::Q4_1, &values(N_IN * N_OUT, 0.7, 1.0)).unwrap();
    let base = model(&folder, GgmlType::Q4_1, &bytes);
    let output = folder.join("requantized.gguf");
    let to = GgmlType::Q8_0;
    let done = requantize(&Gguf::open(&base).unwrap(), to, &output, &|_| Ok(())).unwrap();
    assert_eq!(done[&("Q4_1", "Q8_0")], 2);
    for name in [NAME, OTHER] {
        let (_, before) = weights(&base, name);
        let expected = dequantize(to, &quantize(to, &before).unwrap()).unwrap();
        assert_eq!(weights(&output, name), (to, expected));
    }
    let metadata = |path: &Path| {
        let mut metadata = Gguf::open(path).unwrap().metadata;
        let place = metadata
            .iter()
            .position(|(key, _)| key == "general.file_type");
        let file_type = metadata.remove(place.unwrap()).1;
        (metadata, file_type)
    };
    let (before, now) = (metadata(&base), metadata(&output));
    assert_eq!(before.0, now.0);
    assert_eq!((before.1, now.1), (Value::from(3_u32), Value::from(7_u32)));
    let narrow = folder.join("narrow.gguf");
    let tensor = TensorData::f32("blk.0.attn_q.weight", &[3, 2], &[0.5; 6]);
    gguf::write(&narrow, &[], &[tensor]).unwrap();
    let refused = requantize(&Gguf::open(&narrow).unwrap(), to, &output, &|_| Ok(()));
    assert!(refused.is_err());
    let vocabulary = folder.join("vocabulary.gguf");
    gguf::write(&vocabulary, &[], &[]).unwrap();
    let refused = requantize(&Gguf::open(&vocabulary).unwrap(), to, &output, &|_| Ok(()));
    assert!(matches!(refused, Err(Error::NoMatrices(_))));
}

#[test]
fn a_merged_weight_is_the_sum_of_its_own_type() {
    let before = values(N_IN * N_OUT, 0.7, 1.0);
    for (ggml_type, step) in [
        (GgmlType::F32, 1e-6),
        (GgmlType::F16, 1e-3),
        (GgmlType::BF16, 1e-2),
        (GgmlType::Q8_0, 0.02),
        (GgmlType::Q5_1, 0.08),
        (GgmlType::Q5_0, 0.16),
        (GgmlType::Q4_1, 0.15),
        (GgmlType::Q4_0, 0.3),
    ] {
        let folder = Folder::new();
        let bytes = quantize(ggml_type, &before).unwrap();
        let base = model(&folder, ggml_type, &bytes);
        let (one, other) = (adapter(0.3), adapter(1.1));
        let output = folder.join("merged.gguf");
        let adapters = [(one.clone(), 1.0), (other.clone(), -0.5)];
        let merged = run(&base, &adapters, None, &output).unwrap();
        assert_eq!((merged.n_tensors, merged.retyped.len()), (1, 0));
        let (was, (is, now)) = (weights(&base, NAME).1, weights(&output, NAME));
        assert_eq!(is, ggml_type);
        let changes: Vec<_> = std::iter::zip(change(&one, 1.0), change(&other, -0.5))
            .map(|(x, y)| x + y)
            .collect();
        let furthest = std::iter::zip(&was, &changes)
            .zip(&now)
            .map(|((was, change), now)| (was + change - now).abs())
            .fold(0.0, f32::max);
        assert!(furthest < step, "{ggml_type}: {furthest}");
        // `kept`, computed by its definition.
        let pairs = || std::iter::zip(&changes, std::iter::zip(&was, &now));
        let kept: f64 = pairs()
            .map(|(change, (was, now))| f64::from(change * (now - was)))
            .sum();
        let wanted: f64 = changes.iter().map(|it| f64::from(it * it)).sum();
        assert!((merged.kept - kept / wanted).abs() < 1e-4, "{ggml_type}");
        assert!(
            (merged.kept - 1.0).abs() < 0.2,
            "{ggml_type}: {}",
            merged.kept
        );
        let untouched = Gguf::open(&output).unwrap();
        let copied = untouched.read(&untouched.tensors[1]).unwrap();
        assert_eq!(copied, bytes[..bytes.len() / 2]);
    }
}

#[test]
fn the_share_of_a_change_that_rounding_undoes_is_reported() {
    let folder = Folder::new();
    let bytes = quantize(GgmlType::Q4_0, &values(N_IN * N_OUT, 0.7, 1.0)).unwrap();
    let base = model(&folder, GgmlType::Q4_0, &bytes);
    let faint = [(adapter(0.3), 0.01)];
    let output = folder.join("merged.gguf");
    assert!(run(&base, &faint, None, &output).unwrap().kept < 0.5);
    let finer = run(&base, &faint, Some(GgmlType::F32), &output).unwrap();
    assert!((finer.kept - 1.0).abs() < 1e-3, "{}", finer.kept);
    assert_eq!(finer.retyped[&("Q4_0", "F32")], 1);
    let nothing = [(adapter(0.3), 0.0)];
    assert!((run(&base, &nothing, None, &output).unwrap().kept - 1.0).abs() < f64::EPSILON);
    let untouched = [&base, &output].map(|path| weights(path, NAME).1);
    assert_eq!(untouched[0], untouched[1]);
}

#[test]
fn metadata_is_kept_and_says_what_was_merged() {
    let folder = Folder::new();
    let bytes = vec![1; N_IN / 32 * 18 * N_OUT];
    let base = model(&folder, GgmlType::IQ4_NL, &bytes);
    let output = folder.join("merged.gguf");
    let merged = run(&base, &[(adapter(0.3), 1.0)], None, &output).unwrap();
    assert_eq!(merged.retyped[&("IQ4_NL", "Q8_0")], 1);
    let file = Gguf::open(&output).unwrap();
    let names = Value::Array(Array::String(vec!["alice".into()]));
    assert_eq!(file.get("cope.merged"), Some(&names));
    assert_eq!(file.u32("general.file_type").unwrap(), 7);
    assert_eq!(file.metadata[2], Gguf::open(&base).unwrap().metadata[2]);
    assert_eq!(file.tensor(OTHER).unwrap().ggml_type, GgmlType::IQ4_NL);
    // A second merge adds its name to the first one's.
    let twice = folder.join("twice.gguf");
    run(&output, &[(adapter(0.3), 1.0)], None, &twice).unwrap();
    let names = Value::Array(Array::String(vec!["alice".into(); 2]));
    assert_eq!(Gguf::open(&twice).unwrap().get("cope.merged"), Some(&names));
}

#[test]
fn a_failed_merge_leaves_no_file_behind() {
    let folder = Folder::new();
    let output = folder.join("merged.gguf");
    let flaw = |error: Error| match error {
        Error::Merge { flaw, .. } => flaw,
        error => panic!("{error}"),
    };
    let mut infinite = values(N_IN * N_OUT, 0.7, 1.0);
    infinite[70] = f32::NAN;
    let infinite: Vec<_> = infinite.iter().flat_map(|it| it.to_le_bytes()).collect();
    let base = model(&folder, GgmlType::F32, &infinite);
    let failed = run(&base, &[(adapter(0.3), 1.0)], None, &output).unwrap_err();
    assert_eq!(flaw(failed), MergeFlaw::NotFinite);

    let large: Vec<_> = [7e4_f32; N_IN * N_OUT]
        .iter()
        .flat_map(|it| it.to_le_bytes())
        .collect();
    let base = model(&folder, GgmlType::F32, &large);
    let failed = run(&base, &[(adapter(0.3), 1.0)], Some(GgmlType::F16), &output).unwrap_err();
    assert_eq!(flaw(failed), MergeFlaw::TooLarge(GgmlType::F16));

    let base = model(&folder, GgmlType::MXFP4, &[0; N_IN / 32 * 17 * N_OUT]);
    let failed = run(&base, &[(adapter(0.3), 1.0)], None, &output).unwrap_err();
    assert_eq!(flaw(failed), MergeFlaw::Type(GgmlType::MXFP4));

    let mut stranger = adapter(0.3);
    stranger.base_sha256 = Some("0123456789abcdef".repeat(4));
    assert!(matches!(
        run(&base, &[(stranger, 1.0)], None, &output),
        Err(Error::Misfit { .. })
    ));
    assert!(matches!(
        run(&base, &[], None, &output),
        Err(Error::Stack(_))
    ));

    let stop = |_| Err(Error::Interrupted);
    let base = Gguf::open(&base).unwrap();
    let stopped = merge(&base, "", &[(adapter(0.3), 1.0)], None, &output, &stop);
    assert!(stopped.is_err());
    assert_eq!(folder.names(), ["model.gguf"]);
}
