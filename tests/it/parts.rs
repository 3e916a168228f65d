//! A model in parts runs, is trained on and is named as a whole model is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cope_contrast::Candidate;
use cope_convert::gguf::{self, Gguf, TensorData, Value};
use cope_llama::home::Home;
use cope_llama::llama::{Context, Model, Rows};
use cope_llama::train::WeightType;
use cope_llama::train::model::TrainModel;

use crate::fixture::{Fixture, exact};
use crate::tiny::TinyModel;

/// The parts of the test's models.
const N_PARTS: usize = 3;

/// Writes `whole` in parts, the first of which has its metadata alone, and returns the path of the first.
pub fn split(whole: &Gguf, folder: &Path) -> PathBuf {
    let entry = |key: &str, value: Value| (key.to_owned(), value);
    let path = |no: usize| folder.join(format!("parts-{:05}-of-{N_PARTS:05}.gguf", no + 1));
    let middle = whole.tensors.len() / 2;
    let tensors = [&[], &whole.tensors[..middle], &whole.tensors[middle..]];
    for (no, tensors) in tensors.into_iter().enumerate() {
        let mut metadata = match no {
            0 => whole.metadata.clone(),
            _ => Vec::new(),
        };
        metadata.push(entry("split.no", Value::U16(no as u16)));
        metadata.push(entry("split.count", Value::U16(N_PARTS as u16)));
        let all = Value::I32(whole.tensors.len() as i32);
        metadata.push(entry("split.tensors.count", all));
        let bytes: Vec<_> = tensors.iter().map(|it| whole.read(it).unwrap()).collect();
        let data: Vec<_> = std::iter::zip(tensors, &bytes)
            .map(|(it, bytes)| TensorData::bytes(&*it.name, &it.shape, it.ggml_type, bytes))
            .collect();
        gguf::write(&path(no), &metadata, &data).unwrap();
    }
    path(0)
}

/// The logits of llama.cpp after each of the tokens, and those of some candidates after one more, whose rows of the head are
/// read from a file.
fn logits(model: &Arc<Model>) -> (Vec<f32>, Vec<f32>) {
    let mut context = Context::new(model, None, &exact()).unwrap();
    let all = context.extend_all(&[20, 27, 34, 90, 41]).unwrap();
    let candidates = [5, 300].map(|token| Candidate { token, score: 0.0 });
    context.extend(&[55], 1, Rows::Candidates).unwrap();
    let mut some = Vec::new();
    context
        .logits_of(context.len(), &candidates, &mut some)
        .unwrap();
    (all, some)
}

#[test]
fn a_model_in_parts_gives_the_logits_of_the_whole() {
    let whole = Fixture::of(TinyModel {
        tied: false,
        ..TinyModel::default()
    });
    let first = split(&whole.base, whole.folder.path());
    let parts = Gguf::open(&first).unwrap();
    assert_eq!(
        logits(&Model::load(&first, None).unwrap()),
        logits(&whole.model)
    );
    let trained = |base: &Gguf| {
        let model = TrainModel::load(base, WeightType::F32).unwrap();
        crate::training::train_logits(&model, &[20, 27, 34, 90, 41], None)
    };
    assert_eq!(trained(&parts), trained(&whole.base));
}

#[test]
fn a_base_in_parts_is_known_by_all_of_them() {
    let whole = Fixture::new();
    let first = split(&whole.base, whole.folder.path());
    let data = tempfile::tempdir().unwrap();
    let home = Home::at(data.path());
    let base = home.base_ref(&first).unwrap();
    assert_eq!(base, home.base_ref(&first).unwrap());
    // A link to the first part keeps the name by which the others are found.
    let linked = data.path().join("linked");
    std::fs::create_dir(&linked).unwrap();
    for part in &Gguf::open(&first).unwrap().parts {
        let link = linked.join(part.file_name().unwrap());
        std::os::unix::fs::symlink(part, link).unwrap();
    }
    let linked = home
        .base_ref(&linked.join(first.file_name().unwrap()))
        .unwrap();
    assert_eq!(linked.sha256, base.sha256);
    // Another last part is another base.
    let last = Gguf::open(&first).unwrap().parts.pop().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&last, bytes).unwrap();
    assert_ne!(home.base_ref(&first).unwrap().sha256, base.sha256);
}
