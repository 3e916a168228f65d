//! Tests of safetensors files: the format's own library reads what is written here and the other way round; and each
//! fault of a malformed file.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use cope_convert::safetensors::{self, Dtype, SafeTensors, TensorSpec};
use cope_convert::{Error, SafetensorsFlaw};
use proptest::prelude::*;

use crate::files::Folder;

/// Two tensors, and their data.
fn tensors() -> (Vec<TensorSpec>, Vec<Vec<u8>>) {
    let spec = |name: &str, dtype, shape: &[u64]| TensorSpec {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
    };
    let specs = vec![
        spec("x.lora_A.weight", Dtype::F32, &[2, 3]),
        spec("x.lora_B.weight", Dtype::BF16, &[5, 2]),
    ];
    (specs, vec![(0..24).collect(), (100..120).collect()])
}

fn metadata() -> BTreeMap<String, String> {
    [("format", "pt"), ("note", "line\n\"two\"")]
        .map(|(key, text)| (key.to_owned(), text.to_owned()))
        .into()
}

/// The fault that the reader finds in a file with this header and `n_data` bytes of data.
fn flaw(header: &str, n_data: usize) -> SafetensorsFlaw {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + n_data, 0);
    flaw_of(&bytes)
}

fn flaw_of(bytes: &[u8]) -> SafetensorsFlaw {
    match SafeTensors::open(&Folder::new().file(bytes)) {
        Err(Error::Safetensors { flaw, .. }) => flaw,
        other => panic!("expected a flaw, got {other:?}"),
    }
}

#[test]
fn the_formats_own_library_reads_what_is_written() {
    let folder = Folder::new();
    let path = folder.join("adapter.safetensors");
    let (specs, data) = tensors();
    safetensors::write(
        &path,
        &metadata(),
        &specs,
        |number| Ok(data[number].clone()),
    )
    .unwrap();

    let bytes = fs::read(&path).unwrap();
    let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let texts: BTreeMap<_, _> = header.metadata().clone().unwrap().into_iter().collect();
    assert_eq!(texts, metadata());
    assert_eq!(theirs.len(), 2);
    for (spec, data) in specs.iter().zip(&data) {
        let tensor = theirs.tensor(&spec.name).unwrap();
        assert_eq!(format!("{:?}", tensor.dtype()), format!("{:?}", spec.dtype));
        assert_eq!(
            tensor.shape(),
            spec.shape.iter().map(|&it| it as usize).collect::<Vec<_>>()
        );
        assert_eq!(tensor.data(), data);
    }
}

#[test]
fn files_of_the_formats_own_library_are_read() {
    let (specs, data) = tensors();
    let views = specs.iter().zip(&data).map(|(spec, data)| {
        let dtype = match spec.dtype {
            Dtype::F32 => ::safetensors::Dtype::F32,
            Dtype::F16 => ::safetensors::Dtype::F16,
            Dtype::BF16 => ::safetensors::Dtype::BF16,
        };
        let shape = spec.shape.iter().map(|&it| it as usize).collect();
        let view = ::safetensors::tensor::TensorView::new(dtype, shape, data).unwrap();
        (spec.name.clone(), view)
    });
    let texts: HashMap<_, _> = metadata().into_iter().collect();
    let bytes = ::safetensors::serialize(views.collect::<Vec<_>>(), Some(texts)).unwrap();

    let folder = Folder::new();
    let ours = SafeTensors::open(&folder.file(&bytes)).unwrap();
    assert_eq!(ours.metadata, metadata());
    for (spec, data) in specs.iter().zip(&data) {
        let tensor = ours.tensors.iter().find(|it| it.name == spec.name).unwrap();
        assert_eq!((tensor.dtype, &tensor.shape), (spec.dtype, &spec.shape));
        assert_eq!(&ours.read(tensor).unwrap(), data);
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_and_a_failure_none() {
    let folder = Folder::new();
    let (specs, data) = tensors();
    let [one, other, failed] = ["one", "other", "failed"].map(|name| folder.join(name));
    for path in [&one, &other] {
        safetensors::write(path, &metadata(), &specs, |number| Ok(data[number].clone())).unwrap();
    }
    assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap());
    let short = safetensors::write(&failed, &metadata(), &specs, |_| Ok(vec![0; 24]));
    assert!(matches!(
        short,
        Err(Error::Safetensors {
            flaw: SafetensorsFlaw::Extent(_),
            ..
        })
    ));
    let twice = [specs[0].clone(), specs[0].clone()];
    let twice = safetensors::write(&failed, &metadata(), &twice, |_| Ok(vec![0; 24]));
    assert!(twice.unwrap_err().to_string().contains("occurs twice"));
    assert_eq!(folder.names(), ["one", "other"]);
}

#[test]
fn files_that_lie_are_refused() {
    use SafetensorsFlaw as Flaw;
    let entry = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |dtype, shape, offsets| format!("{{{}}}", entry("t", dtype, shape, offsets));
    assert!(matches!(flaw_of(b""), Flaw::Truncated { length: 0 }));
    assert!(matches!(
        flaw_of(&[9, 0, 0, 0, 0, 0, 0, 0, b'{']),
        Flaw::Truncated { .. }
    ));
    assert!(matches!(flaw_of(&[255; 8]), Flaw::HeaderLength { .. }));
    assert!(matches!(flaw("not JSON", 0), Flaw::Json(_)));
    assert!(matches!(flaw("[]", 0), Flaw::Json(_)));
    for shape in [
        "[]",
        "[0]",
        "[4294967296,4294967296]",
        "[1,1,1,1,1,1,1,1,1]",
    ] {
        assert!(
            matches!(flaw(&one("F32", shape, "[0,4]"), 4), Flaw::Shape { .. }),
            "{shape}"
        );
    }
    // An unknown field, a negative number.
    for header in [
        one("F32", "[-1]", "[0,4]"),
        r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#.into(),
        r#"{"__metadata__":{"a":1}}"#.into(),
    ] {
        assert!(matches!(flaw(&header, 8), Flaw::Json(_)), "{header}");
    }
    for offsets in [
        "[4,8]",
        "[0,8]",
        "[4,0]",
        "[18446744073709551612,18446744073709551615]",
    ] {
        assert!(
            matches!(flaw(&one("F32", "[1]", offsets), 8), Flaw::Extent(_)),
            "{offsets}"
        );
    }
    let pair = |second: &str| format!("{{{},{second}}}", entry("t", "F32", "[1]", "[0,4]"));
    let overlapping = pair(&entry("u", "F32", "[1]", "[2,6]"));
    assert!(matches!(flaw(&overlapping, 8), Flaw::Extent(_)));
    let twice = pair(&entry("t", "F32", "[1]", "[4,8]"));
    let twice = flaw(&twice, 8).to_string();
    assert!(twice.contains(r#""t" occurs twice"#), "{twice}");
    for n_data in [3, 5] {
        let expected = Flaw::DataLength {
            expected: 4,
            got: n_data as u64,
        };
        assert_eq!(flaw(&one("F32", "[1]", "[0,4]"), n_data), expected);
    }
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(place in 0..300_usize, byte in any::<u8>(), cut in 0..400_usize) {
        let folder = Folder::new();
        let path = folder.join("good");
        let (specs, data) = tensors();
        safetensors::write(&path, &metadata(), &specs, |number| Ok(data[number].clone())).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[place % len] = byte;
        bytes.truncate(cut.max(1));
        if let Ok(file) = SafeTensors::open(&folder.file(&bytes)) {
            for tensor in &file.tensors {
                file.read(tensor).unwrap();
            }
        }
    }
}

#[test]
fn a_type_that_no_adapter_has_is_named_with_its_tensor() {
    let header =
        r#"{"x.lora_A.weight": {"dtype": "F64", "shape": [2, 2], "data_offsets": [0, 32]}}"#;
    let flaw = flaw(header, 32);
    assert_eq!(
        flaw.to_string(),
        "the tensor \"x.lora_A.weight\" has the type F64, and only F32, F16 and BF16 are read; save it again in one of these"
    );
}
