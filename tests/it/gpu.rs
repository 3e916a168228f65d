//! A GPU gives the same texts as the CPU, for models and caches in F32. These tests are built with a GPU's feature: run
//! `make test-cuda`, `test-metal` or `test-vulkan`.

use std::sync::Arc;

use cope_llama::decode::{Arm, Contrast, DecoderOptions, PassSchedule, Processor};
use cope_llama::llama::{Context, LoraAdapter, Model, Rows, Token, Twin, devices};

use crate::fixture::{Fixture, adapter, decode, exact, limit};
use crate::tiny::{FAMILIES, TinyModel, family_adapter, queries_and_values};

const N_TOKENS: usize = 48;

/// The largest difference of a logit. The software Vulkan device (lavapipe) reaches 2e-3, since its exponentials are
/// approximations; an H100 reaches 1.4e-2 and more, since cuBLAS may round F32 to the 10 bits of TF32.
const EPSILON: f32 = if cfg!(feature = "cuda") { 5e-2 } else { 1e-2 };

fn contrast() -> Contrast {
    Contrast::new(0.5, 0.1).unwrap()
}

fn twin(tiny: &Fixture, model: &Arc<Model>) -> Twin {
    let path = tiny.folder.path().join("adapter.gguf");
    let loaded = LoraAdapter::load(model, &path, &tiny.base, &tiny.base_sha256).unwrap();
    Twin::new(model, None, loaded, 1.0, &exact()).unwrap()
}

fn text(twin: &mut Twin, prompt: &[Token], schedule: PassSchedule) -> Vec<Token> {
    twin.base.truncate(0);
    twin.user.truncate(0);
    let options = DecoderOptions {
        schedule,
        ..limit(N_TOKENS).into()
    };
    decode(twin, Arm::Cope(contrast()), prompt, options).tokens
}

/// Compares two texts after `prompt`. Returns whether they are equal, or differ first at a choice that differences of logits
/// by [`EPSILON`] can change, and the number of equal tokens before that.
fn agrees(twin: &mut Twin, prompt: &[Token], text: &[Token], other: &[Token]) -> (bool, usize) {
    let shared = std::iter::zip(text, other)
        .take_while(|(x, y)| x == y)
        .count();
    let (Some(&x), Some(&y)) = (text.get(shared), other.get(shared)) else {
        return (text.len() == other.len(), shared);
    };
    let logits = |context: &mut Context| {
        context.truncate(0);
        context
            .extend(&[prompt, &text[..shared]].concat(), 1, Rows::Full)
            .unwrap();
        context.logits().to_vec()
    };
    let (user, base) = (logits(&mut twin.user), logits(&mut twin.base));
    let score = |token: Token| user[token as usize] - contrast().contrast() * base[token as usize];
    let edge = user.iter().copied().fold(f32::MIN, f32::max) + contrast().plausibility().ln();
    let is_at_edge = |token: Token| (user[token as usize] - edge).abs() < 2.0 * EPSILON;
    let gap = (score(x) - score(y)).abs();
    let can_change = gap < 2.0 * (1.0 + contrast().contrast()) * EPSILON;
    (can_change || is_at_edge(x) || is_at_edge(y), shared)
}

#[test]
fn there_is_a_gpu() {
    let found = devices();
    assert!(found.iter().any(|device| device.is_gpu), "{found:?}");
}

#[test]
fn a_gpu_gives_the_texts_of_the_cpu() {
    let mut n_shared = 0;
    for architecture in FAMILIES {
        let tiny = Fixture::of(TinyModel {
            architecture,
            ..TinyModel::default()
        });
        let adapter = family_adapter(architecture, 7, 4, queries_and_values(architecture));
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
        for n_prompt in 2..=prompt.len() {
            let prompt = &prompt[..n_prompt];
            let expected = text(&mut cpu, prompt, PassSchedule::NAIVE);
            for schedule in [
                PassSchedule::NAIVE,
                PassSchedule::fastest(Processor::Gpu),
                PassSchedule::fastest(Processor::Cpu { n_threads: 2 }),
            ] {
                let text = text(&mut gpu, prompt, schedule);
                let (is_same, shared) = agrees(&mut cpu, prompt, &expected, &text);
                assert!(
                    is_same,
                    "{architecture}, {schedule:?}: {expected:?} and {text:?}"
                );
                n_shared += shared;
            }
        }
    }
    // Many tokens were equal before any close choice.
    assert!(n_shared > 1000, "{n_shared}");
}
