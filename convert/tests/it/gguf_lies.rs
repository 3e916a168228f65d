//! Tests of malformed GGUF files: each fault, and the error for it.

use std::path::Path;

use cope_convert::gguf::{GgmlType, Gguf};
use cope_convert::{Error, GgufFlaw};
use proptest::prelude::*;

use crate::files::{Folder, Raw, write_model};

const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32_TENSOR: u32 = 0;
const Q4_1_TENSOR: u32 = 3;

/// The fault that the reader finds in these bytes.
fn flaw(raw: &Raw) -> GgufFlaw {
    match Gguf::open(&Folder::new().file(&raw.0)) {
        Err(Error::Gguf { flaw, .. }) => flaw,
        other => panic!("expected a flaw, got {other:?}"),
    }
}

/// A file with a single metadata entry, up to its value.
fn entry(key: &str, type_id: u32) -> Raw {
    Raw::new(0, 1).string(key).u32(type_id)
}

/// The fault that the reader finds in a file with one tensor of 32 bytes.
fn tensor_flaw(name: &str, shape: &[u64], type_id: u32, offset: u64) -> GgufFlaw {
    flaw(&Raw::new(1, 0).tensor(name, shape, type_id, offset).data(32))
}

/// The message for a file that is not a GGUF file, without its path.
fn not_gguf(path: &Path) -> String {
    let error = Gguf::open(path).expect_err("no GGUF file");
    assert!(matches!(error, Error::Format { .. }), "{error}");
    error
        .to_string()
        .replace(&path.display().to_string(), "FILE")
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let folder = Folder::new();
    assert_eq!(
        not_gguf(&folder.file(b"")),
        "FILE is not a GGUF file (it is empty); give a file in GGUF format"
    );
    assert_eq!(
        not_gguf(&folder.file(b"\x7fELF and so on")),
        r#"FILE is not a GGUF file (it starts with "\x7fELF"); give a file in GGUF format"#
    );
    for (start, found) in [
        (
            &b"PK\x03\x04 and so on"[..],
            "is a zip archive, as PyTorch's pickles are",
        ),
        (b"\x80\x02}q\0", "is a pickle"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"\x40\0\0\0\0\0\0\0{\"a\":", "is a safetensors file"),
        (b"\x3c\0\0\0\0\0\0\0{\"a\":", "is a safetensors file"),
        (
            b"tjgg\x03\0\0\0",
            "is of a format that llama.cpp had before GGUF",
        ),
    ] {
        assert_eq!(
            not_gguf(&folder.file(start)),
            format!("FILE is not a GGUF file (it {found}); give a file in GGUF format")
        );
    }
    assert_eq!(
        not_gguf(&folder.file(b"GG")),
        r#"FILE is not a GGUF file (it starts with "GG"); give a file in GGUF format"#
    );
    assert_eq!(
        not_gguf(folder.join("file.gguf").parent().unwrap()),
        "FILE is not a GGUF file (it is a folder); give a file in GGUF format"
    );
}

#[test]
fn a_missing_file_is_reported_as_missing() {
    let path = Folder::new().join("nothing.gguf");
    let error = Gguf::open(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} does not exist; check the path", path.display())
    );
}

#[test]
fn versions_other_than_2_and_3_are_refused() {
    let header = |version: u32| Raw(b"GGUF".to_vec()).u32(version).u64(0).u64(0);
    for version in [0, 1, 4, u32::MAX] {
        assert_eq!(flaw(&header(version)), GgufFlaw::Version(version));
    }
    for version in [2, 3] {
        let file = Gguf::open(&Folder::new().file(&header(version).0)).unwrap();
        assert_eq!(file.version, version);
    }
}

#[test]
fn big_endian_is_refused_by_name() {
    let raw = Raw(b"GGUF\0\0\0\x03".to_vec()).u64(0).u64(0);
    assert_eq!(flaw(&raw), GgufFlaw::BigEndian);
}

#[test]
fn truncation_at_any_byte_is_an_error() {
    let folder = Folder::new();
    let path = folder.join("model.gguf");
    write_model(&path);
    let bytes = std::fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        let cut = folder.file(&bytes[..length]);
        let error = Gguf::open(&cut).expect_err("a file cut short");
        if length >= 4 {
            let Error::Gguf {
                flaw:
                    GgufFlaw::Truncated {
                        length: reported, ..
                    },
                ..
            } = error
            else {
                panic!("cut to {length} bytes: {error}");
            };
            assert_eq!(reported, length as u64);
        }
    }
    assert!(Gguf::open(&folder.file(&bytes)).is_ok());
}

#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    let too_many = |raw: &Raw| matches!(flaw(raw), GgufFlaw::TooMany { got: u64::MAX, .. });
    assert!(too_many(&Raw::new(u64::MAX, 0)));
    assert!(too_many(&Raw::new(0, u64::MAX)));

    let truncated = |raw: &Raw| matches!(flaw(raw), GgufFlaw::Truncated { .. });
    assert!(truncated(&Raw::new(0, 1).u64(u64::MAX)), "a key's length");
    assert!(
        truncated(&entry("k", STRING).u64(u64::MAX)),
        "a string's length"
    );
    assert!(
        truncated(&entry("k", ARRAY).u32(U32).u64(u64::MAX)),
        "an array of numbers"
    );
    assert!(
        truncated(&entry("k", ARRAY).u32(STRING).u64(1 << 60)),
        "an array of strings"
    );
}

#[test]
fn a_header_of_gigabytes_is_refused() {
    let folder = Folder::new();
    let path = folder.file(&entry("k", STRING).u64(1 << 32).0);
    // The file is sparse, so it takes no room on the disk.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 33)
        .unwrap();
    let error = Gguf::open(&path).unwrap_err().to_string();
    assert!(
        error.contains(r#"the metadata key "k" announces"#),
        "{error}"
    );
    assert!(
        error.contains("bytes of header, and at most 67108864 are accepted"),
        "{error}"
    );
}

#[test]
fn a_name_that_occurs_twice_is_refused() {
    let key = |raw: Raw| raw.string("k").u32(U32).u32(1);
    assert_eq!(
        flaw(&key(key(Raw::new(0, 2)))),
        GgufFlaw::DuplicateKey("k".to_owned())
    );

    let raw = Raw::new(2, 0)
        .tensor("t", &[8], F32_TENSOR, 0)
        .tensor("t", &[8], F32_TENSOR, 32);
    assert_eq!(
        flaw(&raw.data(64)),
        GgufFlaw::DuplicateTensor("t".to_owned())
    );
}

#[test]
fn names_that_ggml_cannot_hold_are_refused() {
    for name in ["", "a\0b", &"n".repeat(64)] {
        assert!(
            matches!(
                tensor_flaw(name, &[8], F32_TENSOR, 0),
                GgufFlaw::Name { .. }
            ),
            "{name:?}"
        );
    }
    for key in ["", "a\0b", &"n".repeat(257)] {
        assert!(
            matches!(flaw(&entry(key, U32).u32(1)), GgufFlaw::Name { .. }),
            "{key:?}"
        );
    }
    let longest = Raw::new(1, 0)
        .tensor(&"n".repeat(63), &[8], F32_TENSOR, 0)
        .data(32);
    assert!(Gguf::open(&Folder::new().file(&longest.0)).is_ok());
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let field = |field: &str| GgufFlaw::NotUtf8 {
        field: field.to_owned(),
    };
    assert_eq!(
        flaw(&Raw::new(0, 1).string(b"\xff")),
        field("metadata entry 0")
    );
    assert_eq!(
        flaw(&entry("k", STRING).string(b"\xff")),
        field(r#"the metadata key "k""#)
    );
    assert_eq!(
        flaw(&Raw::new(1, 0).string(b"\xff")),
        field("tensor entry 0")
    );
}

#[test]
fn unknown_value_types_and_nested_arrays_are_refused() {
    let value_type = |id| GgufFlaw::ValueType {
        field: r#"the metadata key "k""#.to_owned(),
        id,
    };
    assert_eq!(flaw(&entry("k", 13)), value_type(13));
    assert_eq!(flaw(&entry("k", ARRAY).u32(99).u64(0)), value_type(99));
    assert_eq!(
        flaw(&entry("k", ARRAY).u32(ARRAY).u64(1)),
        value_type(ARRAY)
    );
}

#[test]
fn a_boolean_other_than_0_and_1_is_refused() {
    let raw = entry("k", BOOL).bytes(&[2]);
    assert_eq!(
        flaw(&raw),
        GgufFlaw::Bool {
            field: r#"the metadata key "k""#.to_owned(),
            got: 2
        }
    );
}

#[test]
fn an_alignment_that_is_not_a_power_of_two_is_refused() {
    for bytes in [0, 3, 48, 1 << 17, u32::MAX] {
        let got = GgufFlaw::Alignment {
            got: bytes.to_string(),
            limit: 65536,
        };
        assert_eq!(flaw(&entry("general.alignment", U32).u32(bytes)), got);
    }
    let got = flaw(&entry("general.alignment", STRING).string("32"));
    assert_eq!(
        got,
        GgufFlaw::Alignment {
            got: "of type string".to_owned(),
            limit: 65536
        }
    );
}

#[test]
fn an_unknown_tensor_type_is_refused() {
    // 4 is a type that ggml has removed, and 43 is one that it does not have yet.
    for id in [4, 43, u32::MAX] {
        let expected = GgufFlaw::TensorType {
            tensor: "t".to_owned(),
            id,
        };
        assert_eq!(tensor_flaw("t", &[8], id, 0), expected);
    }
}

#[test]
fn an_impossible_shape_is_refused() {
    let five_dims = tensor_flaw("t", &[1, 1, 1, 1, 1], F32_TENSOR, 0);
    assert!(matches!(
        five_dims,
        GgufFlaw::TooMany {
            what: "dimensions",
            got: 5,
            ..
        }
    ));

    let overflowing = [1 << 40, 1 << 40];
    let negative = [1 << 63];
    let empty: [&[u64]; 5] = [&[], &[0], &[8, 0], &overflowing, &negative];
    for shape in empty {
        let expected = GgufFlaw::Shape {
            tensor: "t".to_owned(),
            ggml_type: GgmlType::F32,
            shape: shape.to_vec(),
        };
        assert_eq!(tensor_flaw("t", shape, F32_TENSOR, 0), expected);
    }
    // Rows are whole blocks, even where all elements together would be.
    let broken_blocks = tensor_flaw("t", &[16, 2], Q4_1_TENSOR, 0);
    assert!(matches!(broken_blocks, GgufFlaw::Shape { .. }));
    // The elements fit 63 bits and their bytes do not fit 64.
    let too_long = tensor_flaw("t", &[1 << 62], F32_TENSOR, 0);
    assert!(matches!(too_long, GgufFlaw::Shape { .. }));
}

#[test]
fn tensors_with_gaps_or_overlaps_are_refused() {
    let second_at = |offset| {
        let raw = Raw::new(2, 0).tensor("t", &[8], F32_TENSOR, 0);
        raw.tensor("u", &[8], F32_TENSOR, offset).data(96)
    };
    let (overlapping, misaligned, with_gap) = (0, 40, 64);
    for got in [overlapping, misaligned, with_gap, u64::MAX] {
        let expected = GgufFlaw::Place {
            tensor: "u".to_owned(),
            expected: 32,
            got,
        };
        assert_eq!(flaw(&second_at(got)), expected);
    }
    assert!(Gguf::open(&Folder::new().file(&second_at(32).0)).is_ok());
}

#[test]
fn tensors_beyond_the_end_of_the_file_are_refused() {
    for shape in [[9], [1 << 60], [(1 << 62) - 1]] {
        let got = tensor_flaw("t", &shape, F32_TENSOR, 0);
        assert!(matches!(got, GgufFlaw::Truncated { .. }), "{got}");
    }
}

#[test]
fn a_missing_key_and_one_of_another_type_are_errors() {
    let folder = Folder::new();
    let path = folder.join("model.gguf");
    write_model(&path);
    let model = Gguf::open(&path).unwrap();
    let message = |error: Error| {
        error
            .to_string()
            .replace(&path.display().to_string(), "FILE")
    };
    assert_eq!(
        message(model.u32("nope").unwrap_err()),
        r#"FILE: the metadata key "nope" is missing"#
    );
    assert_eq!(
        message(model.f32("llama.block_count").unwrap_err()),
        r#"FILE: the metadata key "llama.block_count" is of type u32, not f32"#
    );
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let folder = Folder::new();
        let path = folder.join("model.gguf");
        write_model(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        match Gguf::open(&folder.file(&bytes)) {
            Ok(model) => for tensor in &model.tensors {
                prop_assert_eq!(model.read(tensor).unwrap().len() as u64, tensor.n_bytes);
            },
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
}
