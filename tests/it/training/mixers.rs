//! Training on models with other mixers than attention: texts longer than a chunk of the delta rule, as many value heads as
//! key heads and more, and blocks that are left alone.

use cope_convert::gguf::Value;
use cope_convert::{Adapter, LoraTensor, Matrix};
use cope_llama::llama::{Context, Token};
use cope_llama::train::WeightType;
use cope_llama::train::lora::{Lora, LoraConfig, TargetModule};
use cope_llama::train::model::TrainModel;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{largest_difference, train_logits};
use crate::fixture::Fixture;
use crate::tiny::{ALL_LINEARS, TinyModel};

/// A random adapter of every linear layer of a base.
fn adapter_of(base: &Fixture) -> Adapter {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut matrix = |rows: usize, cols: usize| Matrix {
        rows,
        cols,
        data: (0..rows * cols)
            .map(|_| random.random_range(-0.4..0.4))
            .collect(),
    };
    let is_linear = |name: &str| {
        let rest = name
            .strip_prefix("blk.")
            .and_then(|it| it.strip_suffix(".weight"));
        let linear = rest.and_then(|it| it.split_once('.'));
        linear.is_some_and(|(_, linear)| ALL_LINEARS.contains(&linear))
    };
    let linears = base.base.tensors.iter().filter(|it| is_linear(&it.name));
    let mut tensors: Vec<_> = linears
        .map(|tensor| LoraTensor {
            name: tensor.name.clone(),
            a: matrix(3, tensor.shape[0] as usize),
            b: matrix(tensor.shape[1] as usize, 3),
        })
        .collect();
    tensors.sort_by(|x, y| x.name.cmp(&y.name));
    Adapter::new(base.base.architecture().unwrap(), 3.0, tensors)
}

fn tokens(n: i32) -> Vec<Token> {
    (0..n).map(|n| 20 + n * 7 % 300).collect()
}

/// llama.cpp's logits after every token, in passes of 16.
fn logits_of(context: &mut Context, tokens: &[Token]) -> Vec<f32> {
    let parts = tokens.chunks(16);
    parts
        .flat_map(|part| context.extend_all(part).unwrap())
        .collect()
}

/// Checks training's logits of texts of one and of several chunks against llama.cpp's, with and without an adapter.
pub fn check_logits(tiny: TinyModel, edit: impl FnOnce(&mut Vec<(String, Value)>)) -> TrainModel {
    let fixture = Fixture::edited(tiny, edit);
    let adapter = adapter_of(&fixture);
    let model = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
    let n_blocks = model.shape().n_layer;
    let own = |pair: &LoraTensor| !pair.name.starts_with(&format!("blk.{n_blocks}."));
    let trained = Adapter {
        tensors: adapter
            .tensors
            .iter()
            .filter(|it| own(it))
            .cloned()
            .collect(),
        ..adapter
    };
    let lora = Lora::from_adapter(&trained, model.shape()).unwrap();
    let mut twin = fixture.twin(&trained, 1.0);
    for n in [5, 64, 65, 150] {
        let tokens = tokens(n);
        twin.base.truncate(0);
        twin.user.truncate(0);
        let base = logits_of(&mut twin.base, &tokens);
        let user = logits_of(&mut twin.user, &tokens);
        let without = largest_difference(&train_logits(&model, &tokens, None), &base);
        let with = largest_difference(&train_logits(&model, &tokens, Some(&lora)), &user);
        // ggml reads GELU from a table in half precision.
        let tolerance = if tiny.architecture == "gemma4" {
            1e-2
        } else {
            1e-3
        };
        assert!(
            without < tolerance && with < tolerance,
            "{n} tokens: {without}, {with}"
        );
        assert!(largest_difference(&base, &user) > 0.1);
    }
    model
}

fn qwen35() -> TinyModel {
    TinyModel {
        architecture: "qwen35",
        ..TinyModel::default()
    }
}

#[test]
fn logits_of_delta_nets_agree_with_llama_cpp_beyond_a_chunk() {
    for (n_value_heads, tied) in [(2, true), (4, false), (6, true)] {
        let tiny = TinyModel {
            n_value_heads,
            tied,
            n_layer: Some(4),
            ..qwen35()
        };
        check_logits(tiny, |_| ());
    }
}

#[test]
fn logits_of_short_convolutions_agree_with_llama_cpp() {
    for tied in [true, false] {
        let tiny = TinyModel {
            architecture: "lfm2",
            tied,
            n_layer: Some(4),
            ..TinyModel::default()
        };
        check_logits(tiny, |_| ());
    }
}

#[test]
fn blocks_for_further_tokens_are_left_alone() {
    let further = TinyModel {
        n_further: 1,
        ..qwen35()
    };
    let model = check_logits(further, |_| ());
    assert_eq!((model.shape().n_layer, model.shape().n_further), (2, 1));
    let whole = check_logits(qwen35(), |_| ());
    let tokens = tokens(20);
    let logits = |model| train_logits(model, &tokens, None);
    assert!(largest_difference(&logits(&model), &logits(&whole)) < 1e-6);
}

#[test]
fn a_fresh_adapter_changes_the_layers_that_a_model_has() {
    let config = |target_modules: &[TargetModule]| LoraConfig {
        rank: 2,
        lora_alpha: 2.0,
        target_modules: target_modules.to_vec(),
    };
    for (architecture, n_linears) in [("llama", 14), ("lfm2", 12), ("qwen35", 15), ("gemma4", 32)] {
        let fixture = Fixture::of(TinyModel {
            architecture,
            ..TinyModel::default()
        });
        let model = TrainModel::load(&fixture.base, WeightType::F32).unwrap();
        let lora = model.lora(&config(&TargetModule::ALL), 1).unwrap();
        assert_eq!(lora.variables().len(), 2 * n_linears, "{architecture}");
        let others = model.lora(&config(&[TargetModule::InProjZ]), 1);
        match architecture {
            "qwen35" => assert_eq!(others.unwrap().variables().len(), 2),
            _ => assert!(
                others
                    .err()
                    .unwrap()
                    .to_string()
                    .contains("none of the target modules")
            ),
        }
    }
}

#[test]
fn all_target_modules_are_recorded_as_they_were_before_there_were_others() {
    let config = LoraConfig {
        rank: 8,
        lora_alpha: 16.0,
        target_modules: TargetModule::ALL.to_vec(),
    };
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(
        json["target_modules"],
        serde_json::json!(["q", "k", "v", "o", "gate", "up", "down"])
    );
    let read: LoraConfig = serde_json::from_value(json).unwrap();
    assert_eq!(read, config);
}
