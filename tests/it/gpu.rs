//! The same texts on a GPU as on the CPU, for models and caches in F32. Built with the feature of a GPU: `make test-vulkan`.

use std::sync::Arc;

use cope_convert::Adapter;
use cope_llama::decode::{Arm, Contrast, DecodeOptions, Decoder, Sampling, Schedule};
use cope_llama::llama::{LoraAdapter, Model, Token, Twin, devices};

use crate::fixture::{Fixture, adapter, exact};
use crate::tiny::{FAMILIES, TinyModel};

const N_TOKENS: usize = 48;

/// The most that a logit may differ by.
const EPSILON: f32 = 1e-3;

fn twin(tiny: &Fixture, model: &Arc<Model>) -> Twin {
    let path = tiny.folder.path().join("adapter.gguf");
    let loaded = LoraAdapter::load(model, &path, &tiny.base, &tiny.base_sha256).unwrap();
    Twin::new(model, None, loaded, 1.0, &exact()).unwrap()
}

fn text(twin: &mut Twin, prompt: &[Token], temperature: f32, schedule: Schedule) -> Vec<Token> {
    twin.base.truncate(0);
    twin.user.truncate(0);
    let model = Arc::clone(twin.base.model());
    let options = DecodeOptions {
        sampling: Sampling {
            temperature,
            ..Sampling::default()
        },
        n_predict: Some(N_TOKENS),
        schedule,
        ..DecodeOptions::default()
    };
    let policy = twin.policy(Arm::Cope(Contrast::new(0.5, 0.1).unwrap()));
    let mut decoder = Decoder::new(policy, &*model, prompt, options).unwrap();
    decoder.by_ref().for_each(|piece| drop(piece.unwrap()));
    decoder.response().to_vec()
}

#[test]
fn there_is_a_gpu() {
    let found = devices();
    assert!(found.iter().any(|device| device.is_gpu), "{found:?}");
}

#[test]
fn a_gpu_writes_what_the_cpu_writes() {
    for architecture in FAMILIES {
        let tiny = Fixture::of(TinyModel {
            architecture,
            ..TinyModel::default()
        });
        let adapter = Adapter {
            architecture: architecture.into(),
            ..adapter()
        };
        adapter
            .write_gguf(&tiny.folder.path().join("adapter.gguf"))
            .unwrap();
        let [mut cpu, mut gpu] = [Some(0), None].map(|gpu_layers| {
            let model = Model::load(&tiny.path, gpu_layers).unwrap();
            twin(&tiny, &model)
        });
        let prompt = tiny.prompt();
        let logits = |twin: &mut Twin| {
            let base = twin.base.extend_all(&prompt).unwrap();
            [base, twin.user.extend_all(&prompt).unwrap()].concat()
        };
        for (x, y) in std::iter::zip(logits(&mut cpu), logits(&mut gpu)) {
            assert!((x - y).abs() < EPSILON, "{architecture}: {x} and {y}");
        }
        for temperature in [0.0, 0.8] {
            let expected = text(&mut cpu, &prompt, temperature, Schedule::NAIVE);
            assert!(expected.len() > 20, "{architecture}");
            for schedule in [
                Schedule::NAIVE,
                Schedule::fastest(2, true),
                Schedule::fastest(2, false),
            ] {
                let text = text(&mut gpu, &prompt, temperature, schedule);
                assert_eq!(text, expected, "{architecture}: {schedule:?}");
            }
        }
    }
}
