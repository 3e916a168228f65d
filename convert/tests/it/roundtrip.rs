//! Tests that a file reads back as it was written, and that the same input gives the same bytes.

use std::fs;
use std::path::Path;

use cope_convert::gguf::{self, GgmlType, Gguf, TensorData, Value};
use cope_convert::{Error, GgufFlaw};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::files::{Folder, write_model};

/// Copies a file by reading and writing it.
fn copy(from: &Path, to: &Path) {
    let file = Gguf::open(from).unwrap();
    let data = file
        .tensors
        .iter()
        .map(|tensor| file.read(tensor).unwrap())
        .collect::<Vec<_>>();
    let tensors = file.tensors.iter().zip(&data).map(|(tensor, bytes)| {
        TensorData::bytes(tensor.name.as_str(), &tensor.shape, tensor.ggml_type, bytes)
    });
    gguf::write(to, &file.metadata, &tensors.collect::<Vec<_>>()).unwrap();
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ]
}

fn array() -> impl Strategy<Value = Value> {
    prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Value::from),
        vec(any::<i8>(), 0..9).prop_map(Value::from),
        vec(any::<u16>(), 0..9).prop_map(Value::from),
        vec(any::<i16>(), 0..9).prop_map(Value::from),
        vec(any::<u32>(), 0..9).prop_map(Value::from),
        vec(any::<i32>(), 0..9).prop_map(Value::from),
        vec(any::<f32>(), 0..9).prop_map(Value::from),
        vec(any::<bool>(), 0..9).prop_map(Value::from),
        vec(any::<String>(), 0..9).prop_map(Value::from),
        vec(any::<u64>(), 0..9).prop_map(Value::from),
        vec(any::<i64>(), 0..9).prop_map(Value::from),
        vec(any::<f64>(), 0..9).prop_map(Value::from),
    ]
}

/// A tensor's values, as many as rows × columns.
fn matrix() -> impl Strategy<Value = (u64, Vec<f32>)> {
    (1..9_usize, 1..9_usize)
        .prop_flat_map(|(rows, cols)| (Just(cols as u64), vec(any::<f32>(), rows * cols)))
}

proptest! {
    #[test]
    fn any_file_survives(
        metadata in btree_map("[a-z.]{1,30}", prop_oneof![scalar(), array()], 0..9),
        tensors in btree_map("[a-z0-9._]{1,63}", matrix(), 0..5),
        alignment in prop::option::of((0..12_u32).prop_map(|log2| 1 << log2)),
    ) {
        let folder = Folder::new();
        let (first, second) = (folder.join("first.gguf"), folder.join("second.gguf"));
        let mut metadata = metadata.into_iter().collect::<Vec<_>>();
        metadata.extend(alignment.map(|bytes: u32| ("general.alignment".to_owned(), Value::from(bytes))));
        let data = tensors.iter().map(|(name, (cols, values))| {
            TensorData::f32(name.as_str(), &[*cols, values.len() as u64 / cols], values)
        });
        gguf::write(&first, &metadata, &data.collect::<Vec<_>>()).unwrap();

        let file = Gguf::open(&first).unwrap();
        prop_assert_eq!(file.alignment, u64::from(alignment.unwrap_or(32)));
        // Compared as text, since a NaN does not equal itself.
        prop_assert_eq!(format!("{:?}", file.metadata), format!("{metadata:?}"));
        for (name, (cols, values)) in &tensors {
            let tensor = file.tensor(name).unwrap();
            prop_assert_eq!(&tensor.shape, &[*cols, values.len() as u64 / cols]);
            prop_assert_eq!(tensor.offset % file.alignment, 0);
            let expected = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
            prop_assert_eq!(file.read(tensor).unwrap(), expected);
        }

        copy(&first, &second);
        prop_assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    }
}

#[test]
fn a_model_reads_back() {
    let folder = Folder::new();
    let path = folder.join("model.gguf");
    write_model(&path);
    let model = Gguf::open(&path).unwrap();
    assert_eq!((model.version, model.alignment), (3, 32));
    assert_eq!(model.architecture().unwrap(), "llama");
    assert_eq!(model.u32("llama.block_count").unwrap(), 1);
    assert_eq!(
        model.f32("llama.rope.freq_base").unwrap().to_bits(),
        10_000_f32.to_bits()
    );
    let tokens = Value::from(vec!["a".to_owned(), "bc".to_owned()]);
    assert_eq!(model.get("tokenizer.ggml.tokens"), Some(&tokens));
    let tensor = model.tensor("output.weight").unwrap();
    assert_eq!(
        (tensor.ggml_type, tensor.shape.as_slice()),
        (GgmlType::Q4_1, [32, 1].as_slice())
    );
    assert_eq!(model.read(tensor).unwrap(), [7; 20]);
    assert_eq!(model.tensor("nope"), None);
}

#[test]
fn integers_of_any_type_read_as_u32_if_they_fit() {
    let fitting: [Value; 8] = [
        7_u8.into(),
        7_i8.into(),
        7_u16.into(),
        7_i16.into(),
        7_u32.into(),
        7_i32.into(),
        7_u64.into(),
        7_i64.into(),
    ];
    for value in fitting {
        assert_eq!(value.as_u32(), Some(7), "{value:?}");
    }
    let others: [Value; 5] = [
        (-7_i8).into(),
        (-7_i64).into(),
        (1_u64 << 32).into(),
        7_f32.into(),
        true.into(),
    ];
    for value in others {
        assert_eq!(value.as_u32(), None, "{value:?}");
    }
}

#[test]
fn a_tensor_type_is_found_by_its_number() {
    let types = (0..64).filter_map(GgmlType::from_id).collect::<Vec<_>>();
    assert_eq!(types.len(), 35);
    for ggml_type in types {
        assert_eq!(GgmlType::from_id(ggml_type.id()), Some(ggml_type));
    }
    // Blocks of 32 four-bit elements, with an f16 scale and an f16 minimum.
    assert_eq!(
        (GgmlType::Q4_1.block_size(), GgmlType::Q4_1.type_size()),
        (32, 20)
    );
    assert_eq!(GgmlType::Q6_K.to_string(), "Q6_K");
}

#[test]
fn a_written_file_replaces_what_was_there_and_leaves_nothing_else() {
    let folder = Folder::new();
    let path = folder.join("model.gguf");
    fs::write(&path, "old").unwrap();
    write_model(&path);
    assert!(Gguf::open(&path).is_ok());
    assert_eq!(folder.names(), ["model.gguf"]);
}

#[cfg(unix)]
#[test]
fn a_written_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let path = folder.join("model.gguf");
    write_model(&path);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let folder = Folder::new();
    let path = folder.join("missing/model.gguf");
    let error = gguf::write(&path, &[], &[]).unwrap_err();
    assert!(
        matches!(&error, Error::Io { operation: "write", path: named, .. } if *named == path),
        "{error}"
    );

    let taken = folder.join("taken");
    fs::create_dir(&taken).unwrap();
    assert!(matches!(
        gguf::write(&taken, &[], &[]),
        Err(Error::Io {
            operation: "write",
            ..
        })
    ));
    assert_eq!(folder.names(), ["taken"]);
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let folder = Folder::new();
    let write = |metadata: &[(String, Value)], tensors: &[TensorData<'_>]| match gguf::write(
        &folder.join("out.gguf"),
        metadata,
        tensors,
    ) {
        Err(Error::Gguf { flaw, .. }) => flaw,
        other => panic!("expected a flaw, got {other:?}"),
    };
    let key = ("k".to_owned(), Value::from(1_u32));
    let values = [0.0; 8];
    let tensor = TensorData::f32("t", &[8], &values);
    let name = "t".to_owned();
    assert_eq!(
        write(&[key.clone(), key], &[]),
        GgufFlaw::DuplicateKey("k".to_owned())
    );
    assert_eq!(
        write(&[], &[tensor.clone(), tensor]),
        GgufFlaw::DuplicateTensor(name.clone())
    );
    assert_eq!(
        write(&[], &[TensorData::f32("t", &[9], &values)]),
        GgufFlaw::DataLength {
            tensor: name,
            expected: 36,
            got: 32
        }
    );
    let long = "n".repeat(64);
    assert!(matches!(
        write(&[], &[TensorData::f32(long, &[8], &values)]),
        GgufFlaw::Name { .. }
    ));
    let alignment = ("general.alignment".to_owned(), Value::from(24_u32));
    assert!(matches!(
        write(&[alignment], &[]),
        GgufFlaw::Alignment { .. }
    ));
    assert_eq!(folder.names(), [""; 0]);
}
