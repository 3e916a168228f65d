//! Merged models in llama.cpp, compared with the base and a separate adapter.

use std::path::Path;
use std::sync::Arc;

use cope_convert::gguf::{GgmlType, Gguf};
use cope_convert::quant::dequantize as ours;
use cope_convert::{Adapter, LoraTensor, Matrix, merge, sha256};
use cope_llama::llama::{
    Boundary, Context, ContextOptions, LoraAdapter, Model, Special, Token, can_dequantize,
    dequantize as ggmls,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::default_model;
use crate::fixture::{Fixture, exact};
use crate::golden::{PARAGRAPH, mean_kl};
use crate::tiny::{FAMILIES, TinyModel, family_adapter, linears, tiny_adapter};

fn merge_into(base: &Gguf, adapter: &Adapter, ggml_type: Option<GgmlType>, output: &Path) -> f64 {
    let hash = sha256(&base.path).unwrap();
    let adapters = [(adapter.clone(), 0.7)];
    let merged = merge(base, &hash, &adapters, ggml_type, output, &|_| Ok(()));
    merged.unwrap().kept
}

/// The logits after each of `tokens`.
fn logits(
    model: &Arc<Model>,
    adapter: Option<Arc<LoraAdapter>>,
    options: &ContextOptions,
    tokens: &[Token],
) -> Vec<f32> {
    let adapter = adapter.map(|adapter| (adapter, 0.7));
    let mut context = Context::new(model, adapter, options).unwrap();
    context.extend_all(tokens).unwrap()
}

#[test]
fn a_merged_model_gives_the_logits_of_its_base_with_the_adapter() {
    let tokens: Vec<Token> = (0..30).map(|n| 20 + n * 7 % 300).collect();
    for architecture in FAMILIES {
        let tiny = Fixture::of(TinyModel {
            architecture,
            ..TinyModel::default()
        });
        // Two ranks, so that the pairs have different scales.
        let linears = linears(architecture);
        let (first, second) = linears.split_at(linears.len() / 2);
        let mut adapter = family_adapter(architecture, 3, 2, first);
        let second = family_adapter(architecture, 4, 5, second);
        adapter.tensors.extend(second.tensors);
        adapter.tensors.sort_by(|x, y| x.name.cmp(&y.name));
        let path = tiny.folder.path().join("merged.gguf");
        merge_into(&tiny.base, &adapter, None, &path);
        let merged = Model::load(&path, None).unwrap();
        let loaded = tiny.load(&adapter).unwrap();
        let separate = logits(&tiny.model, Some(loaded), &exact(), &tokens);
        let in_weights = logits(&merged, None, &exact(), &tokens);
        let furthest = |x: &[f32], y: &[f32]| {
            let differences = std::iter::zip(x, y).map(|(x, y)| (x - y).abs());
            differences.fold(0.0, f32::max)
        };
        let error = furthest(&separate, &in_weights);
        let without = furthest(&separate, &logits(&tiny.model, None, &exact(), &tokens));
        assert!(
            error < 1e-3 && without > 0.1,
            "{architecture}: {error}, and {without} without"
        );
    }
}

/// The default model's weights are `Q4_1`, whose steps are larger than the adapter's changes. Written as F16 or `Q8_0`, the
/// merged weights keep the changes; written as `Q4_1` again, they lose most of them, and the figure `kept` says so.
#[test]
fn the_default_model_merges_within_the_rounding_of_the_type() {
    let base = Gguf::open(&default_model::path()).unwrap();
    let model = default_model::load();
    let adapter = waves(&base);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    adapter.write_gguf(&path).unwrap();
    let loaded = LoraAdapter::load(&model, &path, &base, "").unwrap();
    let tokens = model
        .tokenize(PARAGRAPH, Boundary::Omit, Special::Ignored)
        .unwrap();
    let options = ContextOptions {
        n_ctx: 256,
        n_outputs: 256,
        ..ContextOptions::default()
    };
    let separate = logits(&model, Some(loaded), &options, &tokens);
    let n_vocab = model.n_vocab();
    let without = mean_kl(&separate, &logits(&model, None, &options, &tokens), n_vocab);
    let merged = folder.path().join("merged.gguf");
    let merged_as = |ggml_type| {
        let kept = merge_into(&base, &adapter, ggml_type, &merged);
        let in_weights = logits(
            &Model::load(&merged, None).unwrap(),
            None,
            &options,
            &tokens,
        );
        (kept, mean_kl(&separate, &in_weights, n_vocab))
    };
    // For products with Q4_1 the activations are rounded to 8 bits, so the logits differ a little even without merging.
    for (ggml_type, rounding) in [(GgmlType::F16, 1e-4), (GgmlType::Q8_0, 0.05)] {
        let (kept, kl) = merged_as(Some(ggml_type));
        assert!(
            (kept - 1.0).abs() < rounding && kl < 0.01 && kl < 0.1 * without,
            "{ggml_type}: {kept}, {kl} of {without}"
        );
    }
    let (kept, kl) = merged_as(None);
    assert!(
        kept < 0.9 && kl > 0.1 * without,
        "Q4_1: {kept}, {kl} of {without}"
    );
}

/// A deterministic adapter on q and down in every layer.
fn waves(base: &Gguf) -> Adapter {
    let adapted = |name: &str| name.contains("attn_q.") || name.contains("ffn_down.");
    let tensors = base.tensors.iter().filter(|it| adapted(&it.name));
    let wave = |rows: usize, cols: usize, turn: f32, size: f32| Matrix {
        rows,
        cols,
        data: (0..rows * cols)
            .map(|i| (i as f32 * turn).sin() * size)
            .collect(),
    };
    let mut tensors: Vec<_> = tensors
        .map(|tensor| LoraTensor {
            name: tensor.name.clone(),
            a: wave(4, tensor.shape[0] as usize, 0.37, 0.02),
            b: wave(tensor.shape[1] as usize, 4, 0.53, 0.6),
        })
        .collect();
    tensors.sort_by(|x, y| x.name.cmp(&y.name));
    Adapter {
        tensors,
        ..tiny_adapter(1, 4, &[])
    }
}

/// Compares every type that both can dequantise, on random bytes; the scale of some blocks is NaN.
#[test]
fn weights_are_dequantised_like_ggml_does() {
    let types: Vec<_> = (0..64).filter_map(GgmlType::from_id).collect();
    let mut compared = 0;
    for ggml_type in types.into_iter().filter(|&it| can_dequantize(it)) {
        let mut bytes = vec![0; 200 * ggml_type.type_size() as usize];
        ChaCha8Rng::seed_from_u64(5).fill_bytes(&mut bytes);
        let Some(values) = ours(ggml_type, &bytes) else {
            continue;
        };
        let mut expected = vec![0.0; values.len()];
        ggmls(ggml_type, &bytes, &mut expected);
        let block = ggml_type.block_size() as usize;
        for (values, expected) in values.chunks(block).zip(expected.chunks(block)) {
            let finite = expected
                .iter()
                .map(|it| it.abs())
                .filter(|it| it.is_finite());
            // ggml may multiply and add in one step.
            let rounding = 1e-6 * finite.fold(0.0, f32::max);
            for (value, expected) in values.iter().zip(expected) {
                let close = (value - expected).abs() <= rounding;
                assert!(
                    close || !value.is_finite() && !expected.is_finite(),
                    "{ggml_type}: {value} for {expected}"
                );
            }
        }
        compared += 1;
    }
    assert_eq!(compared, 15);
}
