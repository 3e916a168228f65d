//! Models in parts are read as the whole model, or refused by the part that is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use cope_convert::gguf::{self, GgmlType, Gguf, TensorData, Value, is_part};
use cope_convert::{Adapter, files, merge, requantize, sha256};

use crate::files::{Folder, adapter, write_model};

const FIRST: &str = "model-00001-of-00003.gguf";

/// The metadata and the tensors, by their numbers in the whole model, of each part.
struct Parts {
    metadata: Vec<Vec<(String, Value)>>,
    tensors: Vec<Vec<usize>>,
}

impl Parts {
    /// Three parts of [`write_model`]: the first has no tensors, as some programs write it.
    fn new(whole: &Gguf) -> Self {
        let entry = |key: &str, value: Value| (key.to_owned(), value);
        let mut first = whole.metadata.clone();
        first.push(entry("split.count", Value::U16(3)));
        first.push(entry("split.tensors.count", Value::I32(2)));
        let mut metadata = vec![first, Vec::new(), Vec::new()];
        for (no, metadata) in (0..).zip(&mut metadata) {
            metadata.push(entry("split.no", Value::U16(no)));
        }
        let tensors = vec![vec![], vec![0], vec![1]];
        Self { metadata, tensors }
    }

    fn set(&mut self, part: usize, key: &str, value: Value) {
        let mut entries = self.metadata[part].iter_mut();
        entries.find(|entry| entry.0 == key).unwrap().1 = value;
    }

    /// Writes the parts, and returns the path of the first.
    fn write(&self, whole: &Gguf, folder: &Folder) -> PathBuf {
        let parts = (1..).zip(self.metadata.iter().zip(&self.tensors));
        for (no, (metadata, tensors)) in parts {
            let tensors = tensors.iter().map(|&i| &whole.tensors[i]);
            let bytes: Vec<_> = tensors.map(|it| (it, whole.read(it).unwrap())).collect();
            let data: Vec<_> = bytes
                .iter()
                .map(|(it, bytes)| TensorData::bytes(&*it.name, &it.shape, it.ggml_type, bytes))
                .collect();
            let path = folder.join(&format!("model-{no:05}-of-00003.gguf"));
            gguf::write(&path, metadata, &data).unwrap();
        }
        folder.join(FIRST)
    }
}

fn whole(folder: &Folder) -> Gguf {
    let path = folder.join("whole.gguf");
    write_model(&path);
    Gguf::open(&path).unwrap()
}

#[test]
fn the_first_part_opens_all() {
    let folder = Folder::new();
    let whole = whole(&folder);
    let first = Parts::new(&whole).write(&whole, &folder);
    let model = Gguf::open(&first).unwrap();
    assert_eq!(model.metadata, whole.metadata);
    let names = [
        "model-00001-of-00003.gguf",
        "model-00002-of-00003.gguf",
        "model-00003-of-00003.gguf",
    ];
    assert_eq!(model.parts, names.map(|name| folder.join(name)));
    assert_eq!(files(&first).unwrap(), model.parts);
    for tensor in &whole.tensors {
        let part = model.tensor(&tensor.name).unwrap();
        assert_eq!(
            (&part.shape, part.ggml_type),
            (&tensor.shape, tensor.ggml_type)
        );
        assert_eq!(model.read(part).unwrap(), whole.read(tensor).unwrap());
    }
    assert_eq!(model.tensors.len(), 2);
    assert_eq!(&*model.tensors[1].path, model.parts[2]);
}

#[test]
fn what_is_written_from_parts_is_whole() {
    let folder = Folder::new();
    let whole = whole(&folder);
    let first = Parts::new(&whole).write(&whole, &folder);
    let adapter = Adapter {
        base_sha256: None,
        ..adapter()
    };
    let written = |base: &Path| {
        let base = Gguf::open(base).unwrap();
        let path = folder.join("written.gguf");
        let adapters = [(adapter.clone(), 1.0)];
        merge(&base, "", &adapters, None, &path, &|_| Ok(())).unwrap();
        let merged = fs::read(&path).unwrap();
        requantize(&base, GgmlType::F16, &path, &|_| Ok(())).unwrap();
        (merged, fs::read(&path).unwrap())
    };
    assert_eq!(written(&first), written(&whole.path));
}

#[test]
fn the_hash_of_a_model_in_parts_is_that_of_all_its_bytes() {
    let folder = Folder::new();
    let whole = whole(&folder);
    let first = Parts::new(&whole).write(&whole, &folder);
    let parts = Gguf::open(&first).unwrap().parts;
    let bytes: Vec<_> = parts
        .iter()
        .flat_map(|part| fs::read(part).unwrap())
        .collect();
    let together = folder.join("together");
    fs::write(&together, bytes).unwrap();
    assert_eq!(sha256(&first).unwrap(), sha256(&together).unwrap());
    for (name, is_a_part) in [
        (FIRST, true),
        ("-00002-of-00002.gguf", true),
        ("model-00001-of-00001.gguf", false),
        ("model-1-of-3.gguf", false),
        ("model.gguf", false),
    ] {
        assert_eq!(is_part(Path::new(name)), is_a_part, "{name}");
    }
}

/// The message about parts that `spoil` has changed, without the folder.
fn refused(spoil: impl FnOnce(&mut Parts)) -> String {
    let folder = Folder::new();
    let whole = whole(&folder);
    let mut parts = Parts::new(&whole);
    spoil(&mut parts);
    message(&parts.write(&whole, &folder), &folder)
}

fn message(path: &Path, folder: &Folder) -> String {
    let message = Gguf::open(path).unwrap_err().to_string();
    message.replace(&folder.join("").display().to_string(), "")
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    for (flaw, message) in [
        (
            refused(|parts| parts.set(1, "split.no", Value::U16(2))),
            "model-00002-of-00003.gguf: the file is part 2 of a model, counted from 0, and its name says 1",
        ),
        // llama.cpp would end the process.
        (
            refused(|parts| parts.set(2, "split.no", Value::U32(2))),
            "model-00003-of-00003.gguf: the metadata key \"split.no\" is of type u32, not u16",
        ),
        (
            refused(|parts| parts.metadata[1].clear()),
            "model-00002-of-00003.gguf: the metadata key \"split.no\" is missing",
        ),
        (
            refused(|parts| parts.set(0, "split.count", Value::U32(3))),
            "model-00001-of-00003.gguf: the metadata key \"split.count\" is of type u32, not u16",
        ),
        (
            refused(|parts| parts.set(0, "split.count", Value::U16(4))),
            "model-00001-of-00003.gguf: the file is part 1 of the 4 parts of a model, and its name does not end in -00001-of-00004.gguf, as their names must",
        ),
        (
            refused(|parts| parts.set(0, "split.tensors.count", Value::I32(3))),
            "model-00001-of-00003.gguf: the model has 3 tensors by its first part, and 2 in all its parts",
        ),
        (
            refused(|parts| parts.tensors[1] = vec![1]),
            "model-00003-of-00003.gguf: the tensor \"output.weight\" occurs twice; the file is damaged",
        ),
    ] {
        assert_eq!(flaw, message);
    }
}

#[test]
fn another_part_than_the_first_and_a_part_that_is_missing_are_named() {
    let folder = Folder::new();
    let whole = whole(&folder);
    let mut parts = Parts::new(&whole);
    // Programs that split models write the number of parts into each.
    let count = ("split.count".to_owned(), Value::U16(3));
    parts.metadata[1].push(count);
    let first = parts.write(&whole, &folder);
    assert_eq!(
        message(&folder.join("model-00002-of-00003.gguf"), &folder),
        "model-00002-of-00003.gguf: the file is one of the 3 parts of a model; give the first, model-00001-of-00003.gguf"
    );
    fs::remove_file(folder.join("model-00003-of-00003.gguf")).unwrap();
    assert_eq!(
        message(&first, &folder),
        "model-00001-of-00003.gguf: the model is in 3 parts, and model-00003-of-00003.gguf is missing; get all of them"
    );
    let renamed = folder.join("renamed.gguf");
    fs::rename(&first, &renamed).unwrap();
    assert_eq!(
        message(&renamed, &folder),
        "renamed.gguf: the file is part 1 of the 3 parts of a model, and its name does not end in -00001-of-00003.gguf, as their names must"
    );
}
